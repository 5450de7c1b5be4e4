-- How many of a job's attempts were broken off because somebody stopped the service. They do not count towards its limit.
ALTER TABLE jobs ADD COLUMN spared_attempts BIGINT NOT NULL DEFAULT 0;
