-- The first schema. Times are milliseconds since the epoch (`_us`: microseconds), ids are TEXT as in `ids.rs`, structured
-- values are JSON in TEXT. Only types and clauses that PostgreSQL also has, apart from BLOB (there: BYTEA).

CREATE TABLE deliveries (
    forge       TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    event       TEXT    NOT NULL,
    received_at BIGINT  NOT NULL,
    state       TEXT    NOT NULL,
    detail      TEXT    NOT NULL DEFAULT '',
    -- Tries that failed, and those among them in which the forge answered, but with a refusal.
    tries       BIGINT  NOT NULL DEFAULT 0,
    denials     BIGINT  NOT NULL DEFAULT 0,
    next_try_at BIGINT  NOT NULL,
    finished_at BIGINT,
    payload     BLOB    NOT NULL,
    PRIMARY KEY (forge, id)
);
CREATE INDEX deliveries_unprocessed ON deliveries (next_try_at) WHERE state = 'received';
CREATE INDEX deliveries_finished ON deliveries (finished_at);

-- The last number given to a run of one workflow file. Outlives the runs, so that a number is not given twice.
CREATE TABLE run_numbers (
    forge         TEXT   NOT NULL,
    repo          TEXT   NOT NULL,
    workflow_path TEXT   NOT NULL,
    last          BIGINT NOT NULL,
    used_at       BIGINT NOT NULL,
    PRIMARY KEY (forge, repo, workflow_path)
);

-- No foreign key to deliveries: those are forgotten earlier.
CREATE TABLE runs (
    id            TEXT   NOT NULL PRIMARY KEY,
    forge         TEXT   NOT NULL,
    delivery_id   TEXT   NOT NULL,
    repo          TEXT   NOT NULL,
    installation  BIGINT,
    event         TEXT   NOT NULL,
    sha           TEXT   NOT NULL,
    workflow_path TEXT   NOT NULL,
    workflow_name TEXT   NOT NULL,
    context       TEXT   NOT NULL,
    number        BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    UNIQUE (forge, delivery_id, workflow_path)
);
CREATE INDEX runs_created ON runs (created_at);

CREATE TABLE jobs (
    id               TEXT    NOT NULL PRIMARY KEY,
    run_id           TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    position         BIGINT  NOT NULL,
    key              TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    spec             TEXT    NOT NULL,
    needs            TEXT    NOT NULL,
    profile          TEXT,
    state            TEXT    NOT NULL,
    attempt          BIGINT  NOT NULL,
    vm_id            TEXT,
    outcome          TEXT,
    outputs          TEXT,
    log_token        TEXT    NOT NULL UNIQUE,
    created_at       BIGINT  NOT NULL,
    queued_at        BIGINT,
    started_at       BIGINT,
    finished_at      BIGINT,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    UNIQUE (run_id, position)
);
CREATE INDEX jobs_unfinished ON jobs (run_id) WHERE state <> 'finished';
CREATE INDEX jobs_created ON jobs (created_at);

CREATE TABLE reports (
    id                TEXT    NOT NULL PRIMARY KEY,
    run_id            TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    job_id            TEXT    UNIQUE REFERENCES jobs (id) ON DELETE CASCADE,
    desired           TEXT    NOT NULL,
    -- Whether `desired` is an end: it is sent before what will change again.
    is_final          BOOLEAN NOT NULL,
    version           BIGINT  NOT NULL,
    sent_version      BIGINT  NOT NULL,
    abandoned_version BIGINT  NOT NULL,
    abandoned_why     TEXT,
    external          TEXT    NOT NULL,
    uncertain         BOOLEAN NOT NULL,
    tries             BIGINT  NOT NULL,
    next_try_at       BIGINT  NOT NULL
);
CREATE INDEX reports_unsent ON reports (next_try_at) WHERE version > sent_version AND version > abandoned_version;
CREATE INDEX reports_of_run ON reports (run_id);

CREATE TABLE vms (
    id         TEXT   NOT NULL PRIMARY KEY,
    job_id     TEXT   NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt    BIGINT NOT NULL,
    state      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    gone_at    BIGINT,
    UNIQUE (job_id, attempt)
);
CREATE INDEX vms_not_gone ON vms (created_at) WHERE state <> 'gone';

CREATE TABLE job_events (
    job_id  TEXT   NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number  BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    at_us   BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    detail  TEXT   NOT NULL,
    PRIMARY KEY (job_id, number)
);
