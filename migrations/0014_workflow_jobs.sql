-- Jobs of GitHub's own workflows that a profile with GitHub's runner offers its labels to: how far each is. What is queued is the
-- demand for machines; what a runner has, or had, says which machine is taken.
CREATE TABLE workflow_jobs (
    forge        TEXT    NOT NULL,
    -- The forge's number; an attempt of its run has numbers of its own.
    id           INTEGER NOT NULL,
    repo         TEXT    NOT NULL,
    installation INTEGER,
    organization TEXT,
    run_id       INTEGER NOT NULL,
    sha          TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    -- The profile whose runners have its labels.
    profile      TEXT    NOT NULL,
    -- unjudged, refused, queued, in_progress, completed: never back, but for unjudged to queued.
    state        TEXT    NOT NULL,
    runner       TEXT,
    conclusion   TEXT,
    -- Times in milliseconds since the epoch: first heard of, and last asked about at the forge or told by it.
    seen_at      INTEGER NOT NULL,
    checked_at   INTEGER NOT NULL,
    PRIMARY KEY (forge, id)
);
CREATE INDEX workflow_jobs_by_state ON workflow_jobs (state);
CREATE INDEX workflow_jobs_by_runner ON workflow_jobs (runner) WHERE runner IS NOT NULL;
