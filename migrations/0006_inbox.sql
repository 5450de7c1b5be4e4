-- Deliveries whose body stands in a segment of the inbox (`store/inbox/`) instead of in `payload`, which is empty then.
ALTER TABLE deliveries ADD COLUMN segment BIGINT;
ALTER TABLE deliveries ADD COLUMN position BIGINT;
ALTER TABLE deliveries ADD COLUMN length BIGINT;
CREATE INDEX deliveries_segment ON deliveries (segment) WHERE segment IS NOT NULL;

-- Up to where the inbox has been taken into `deliveries`. One row.
CREATE TABLE inbox (
    segment  BIGINT NOT NULL,
    position BIGINT NOT NULL
);
INSERT INTO inbox (segment, position) VALUES (0, 0);
