-- A thread that has a lifetime expires when nobody has touched it for so long. Whatever changes a thread sets updated_at.
ALTER TABLE thread ADD COLUMN ttl_strategy TEXT CHECK (ttl_strategy IN ('delete', 'keep_latest'));
ALTER TABLE thread ADD COLUMN ttl_minutes DOUBLE PRECISION;
-- When it was last reduced to its latest checkpoint: it then has a lifetime more.
ALTER TABLE thread ADD COLUMN pruned_at TIMESTAMPTZ;
-- In UTC: only without a time zone is the sum immutable.
ALTER TABLE thread ADD COLUMN expires_at TIMESTAMP
    GENERATED ALWAYS AS ((greatest(updated_at, pruned_at) AT TIME ZONE 'UTC') + ttl_minutes * INTERVAL '1 minute') STORED;
CREATE INDEX thread_expires_idx ON thread (expires_at) WHERE expires_at IS NOT NULL;
