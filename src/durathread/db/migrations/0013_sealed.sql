-- The names of all keys that something in this database has been encrypted with.
ALTER TABLE deployment ADD COLUMN sealed_by TEXT[] NOT NULL DEFAULT '{}';
