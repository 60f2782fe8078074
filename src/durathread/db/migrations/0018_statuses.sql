-- Threads are listed in the order of their status, and counted by it without being read. Those that work are looked for by
-- whoever looks for repairs, hidden ones too.
DROP INDEX thread_status_idx;
CREATE INDEX thread_shown_status_idx ON thread (status, thread_id) WHERE NOT hidden;
CREATE INDEX thread_busy_idx ON thread (updated_at) WHERE status = 'busy';
