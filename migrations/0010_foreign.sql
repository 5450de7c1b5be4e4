-- Jobs that a forge planned itself and gave away over a protocol of its own: what it asked for, and how far it was told.
CREATE TABLE foreign_jobs (
    job_id      TEXT    PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    -- Who gave it away, in Dayfly's words, and its name there.
    source      TEXT    NOT NULL,
    external_id TEXT    NOT NULL,
    -- What was asked for. It may hold tokens for this one job, so it is forgotten once the job is settled.
    request     TEXT,
    -- How far the forge was told; opaque here.
    progress    TEXT    NOT NULL DEFAULT 'null',
    -- What ran the job says of its end; opaque here.
    verdict     TEXT    NOT NULL DEFAULT 'null',
    -- The forge knows the end.
    settled     BOOLEAN NOT NULL DEFAULT FALSE,
    UNIQUE (source, external_id)
);
CREATE INDEX foreign_jobs_open ON foreign_jobs (source) WHERE NOT settled;
