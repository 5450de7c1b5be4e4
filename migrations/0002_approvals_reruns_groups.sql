-- Approvals of forks' commits, re-runs, and concurrency groups.

-- What a person allowed to run: one commit of one pull request. A commit that the pull request has left behind has a row too,
-- so that an approval which was asked for before that, and is stored after it, does not count.
CREATE TABLE approvals (
    forge     TEXT   NOT NULL,
    repo      TEXT   NOT NULL,
    number    BIGINT NOT NULL,
    sha       TEXT   NOT NULL,
    -- A person's name at the forge; NULL: whoever may use the control socket.
    person    TEXT,
    -- When it was asked for.
    at        BIGINT NOT NULL,
    -- When the event arrived that replaced the commit.
    voided_at BIGINT,
    PRIMARY KEY (forge, repo, number, sha)
);
CREATE INDEX approvals_at ON approvals (at);

-- Where the delivery came from; not the forge itself for what was asked for on the control socket.
ALTER TABLE runs ADD COLUMN delivery_forge TEXT NOT NULL DEFAULT 'github';
ALTER TABLE runs ADD COLUMN pull_request BIGINT;
ALTER TABLE runs ADD COLUMN is_fork BOOLEAN NOT NULL DEFAULT FALSE;
-- It stands for an event that may not run: it has a report and never a job.
ALTER TABLE runs ADD COLUMN is_held BOOLEAN NOT NULL DEFAULT FALSE;
-- The run that this one repeats, and how often it was repeated. Not a foreign key: that run is forgotten earlier.
ALTER TABLE runs ADD COLUMN root_id TEXT;
ALTER TABLE runs ADD COLUMN attempt BIGINT NOT NULL DEFAULT 1;
-- How the jobs ended that are not repeated, by key.
ALTER TABLE runs ADD COLUMN carried TEXT NOT NULL DEFAULT '{}';
-- In lower case.
ALTER TABLE runs ADD COLUMN concurrency_group TEXT;
ALTER TABLE runs ADD COLUMN cancels_group BOOLEAN NOT NULL DEFAULT FALSE;
-- When its delivery arrived: the order within a group, whatever the order of processing was.
ALTER TABLE runs ADD COLUMN arrived_at BIGINT NOT NULL DEFAULT 0;
UPDATE runs SET arrived_at = created_at, is_held = (workflow_name = 'held' AND context = 'null');
CREATE UNIQUE INDEX runs_of_root ON runs (root_id, attempt);
CREATE INDEX runs_of_commit ON runs (repo, sha);
CREATE INDEX runs_of_group ON runs (repo, concurrency_group) WHERE concurrency_group IS NOT NULL;
CREATE INDEX runs_of_pull_request ON runs (repo, pull_request) WHERE pull_request IS NOT NULL;

-- What its report says about who or what asked for its end.
ALTER TABLE jobs ADD COLUMN cancel_why TEXT;
