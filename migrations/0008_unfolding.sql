-- Jobs whose place others take, groups of single jobs, and what starts by itself.

-- Of a call whose jobs are there: what their keys begin with.
ALTER TABLE jobs ADD COLUMN inner_prefix TEXT;

-- The workflows that a run's jobs are, as they were read when the run was planned.
CREATE TABLE called_workflows (
    run_id   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- As a `uses` names it, from the place of the first workflow.
    place    TEXT NOT NULL,
    -- The commit that it was read at.
    sha      TEXT NOT NULL,
    workflow TEXT NOT NULL,
    PRIMARY KEY (run_id, place)
);

-- Whether all runs of its concurrency group wait for their turn, and not only the newest.
ALTER TABLE runs ADD COLUMN queues_in_group BOOLEAN NOT NULL DEFAULT FALSE;

-- The group that a job is in by itself, in lower case, and since when: its turn comes in this order.
ALTER TABLE jobs ADD COLUMN concurrency_group TEXT;
ALTER TABLE jobs ADD COLUMN joined_group_at BIGINT;
CREATE INDEX jobs_of_group ON jobs (concurrency_group) WHERE concurrency_group IS NOT NULL AND state <> 'finished';

-- When workflows of default branches start by themselves.
CREATE TABLE schedules (
    forge         TEXT   NOT NULL,
    repo          TEXT   NOT NULL,
    workflow_path TEXT   NOT NULL,
    cron          TEXT   NOT NULL,
    asked         TEXT   NOT NULL,
    payload       TEXT   NOT NULL,
    next_at       BIGINT NOT NULL,
    -- When the event arrived that told of it.
    arrived_at    BIGINT NOT NULL,
    PRIMARY KEY (forge, repo, workflow_path, cron)
);
CREATE INDEX schedules_due ON schedules (next_at);
