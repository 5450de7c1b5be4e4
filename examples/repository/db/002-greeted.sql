ALTER TABLE people ADD COLUMN greeted_at TEXT;
