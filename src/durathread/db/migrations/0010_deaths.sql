-- Which worker process has claimed a run's step, and how many that had claimed the same step have died. A worker holds an
-- advisory lock of its number, which Postgres releases when the process is gone; `claimant_boot` is when the Postgres that
-- knows of the lock was started: a new one knows of nobody.
ALTER TABLE run ADD COLUMN claimant BIGINT;
ALTER TABLE run ADD COLUMN claimant_boot TIMESTAMPTZ;
ALTER TABLE run ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
