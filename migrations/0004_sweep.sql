-- What the sweep of the forge remembers, so that nothing is brought or asked for a second time.

-- Heads of pull requests that need no more looks: their event came, or was brought, or is older than what is recovered.
CREATE TABLE swept_heads (
    forge       TEXT   NOT NULL,
    repo        TEXT   NOT NULL,
    number      BIGINT NOT NULL,
    sha         TEXT   NOT NULL,
    -- The delivery that brought it, and the pull request's last change that it tells of; NULL where none was needed.
    delivery_id TEXT,
    as_of       BIGINT,
    seen_at     BIGINT NOT NULL,
    PRIMARY KEY (forge, repo, number, sha)
);
CREATE INDEX swept_heads_seen ON swept_heads (seen_at);
CREATE INDEX swept_heads_delivery ON swept_heads (delivery_id) WHERE delivery_id IS NOT NULL;

-- How often another attempt at a delivery was asked for.
CREATE TABLE redeliveries (
    forge    TEXT   NOT NULL,
    guid     TEXT   NOT NULL,
    times    BIGINT NOT NULL,
    asked_at BIGINT NOT NULL,
    -- When the forge tried to deliver it before it was asked: its place in the order of events.
    first_at BIGINT NOT NULL,
    PRIMARY KEY (forge, guid)
);
CREATE INDEX redeliveries_asked ON redeliveries (asked_at);
