-- What each attempt of a job reached and what it was refused: a bounded list, written once when its steps have ended.
CREATE TABLE egress (
    job_id  TEXT   NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    log     TEXT   NOT NULL,
    PRIMARY KEY (job_id, attempt)
);
