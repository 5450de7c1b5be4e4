-- What the reports of each attempt of a job said: bounded, written once when its steps have ended.
CREATE TABLE results (
    job_id  TEXT   NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    results TEXT   NOT NULL,
    PRIMARY KEY (job_id, attempt)
);
