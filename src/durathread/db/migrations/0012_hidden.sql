-- Threads that nobody sees are few, and looked for often.
CREATE INDEX thread_hidden_idx ON thread (created_at) WHERE hidden;
