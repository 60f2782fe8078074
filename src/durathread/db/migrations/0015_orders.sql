-- Threads are listed in these orders too.
CREATE INDEX thread_created_idx ON thread (created_at DESC);
CREATE INDEX thread_state_updated_idx ON thread (state_updated_at DESC);
