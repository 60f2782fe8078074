-- What somebody has stored, in bytes, for quotas. What it adds is noted by each write of a connection that counts
-- (`durathread.counts`); a total is what was measured last, with all that was noted since: see db/stored.py.
CREATE TABLE stored (
    holder      TEXT PRIMARY KEY,
    bytes       BIGINT NOT NULL,
    measured_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
-- Rows that are only ever added: who writes waits for nobody.
CREATE TABLE stored_change (
    holder TEXT NOT NULL,
    bytes  BIGINT NOT NULL
);
CREATE INDEX stored_change_holder_idx ON stored_change (holder);

-- Whose it is; empty if nobody says, null for what is of before, and belongs to nobody.
ALTER TABLE thread ADD COLUMN holder TEXT;
ALTER TABLE assistant ADD COLUMN holder TEXT;
ALTER TABLE assistant_version ADD COLUMN holder TEXT;
ALTER TABLE store ADD COLUMN durathread_holder TEXT;
CREATE INDEX thread_holder_idx ON thread (holder) WHERE holder IS NOT NULL;
CREATE INDEX assistant_version_holder_idx ON assistant_version (holder) WHERE holder IS NOT NULL;
CREATE INDEX store_holder_idx ON store (durathread_holder) WHERE durathread_holder IS NOT NULL;
