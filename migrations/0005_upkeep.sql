-- What pushes to default branches ask for besides jobs: one row for each thing that is kept up, and it outlives what was made.

CREATE TABLE upkeep (
    forge        TEXT   NOT NULL,
    repo         TEXT   NOT NULL,
    -- `look` (into the default branch, for what there is to do), `prepare` (a snapshot), `fill` (a cache).
    kind         TEXT   NOT NULL,
    -- Empty for a look.
    profile      TEXT   NOT NULL,
    installation BIGINT,
    -- The default branch's commit, and when the event arrived that told of it: an older one changes nothing.
    sha          TEXT   NOT NULL,
    arrived_at   BIGINT NOT NULL,
    -- What is wanted: the hash that names it, and how it is made. Empty and NULL for a look.
    hash         TEXT   NOT NULL,
    recipe       TEXT,
    state        TEXT   NOT NULL,
    detail       TEXT   NOT NULL,
    tries        BIGINT NOT NULL,
    next_try_at  BIGINT NOT NULL,
    -- The log of the last try.
    log_id       TEXT,
    started_at   BIGINT,
    finished_at  BIGINT,
    -- Jobs that found nothing prepared.
    misses       BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (forge, repo, kind, profile)
);
CREATE INDEX upkeep_wanted ON upkeep (next_try_at) WHERE state = 'wanted';

-- How often jobs started from a prepared snapshot, and when last.
CREATE TABLE prepared_uses (
    forge   TEXT   NOT NULL,
    repo    TEXT   NOT NULL,
    profile TEXT   NOT NULL,
    hash    TEXT   NOT NULL,
    hits    BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (forge, repo, profile, hash)
);
