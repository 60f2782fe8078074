-- A run of durability `exit` writes when it stops, also when it is told to: where it was is lost otherwise. So it may write
-- once it is interrupted, until its thread shows what it has left, or another run of the thread works.
CREATE FUNCTION is_leaving(run UUID, token BIGINT) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    own RECORD;
BEGIN
    SELECT r.thread_id, r.seq, r.started_at INTO own FROM run r
    WHERE r.run_id = run AND r.attempt = token AND r.status = 'interrupted' AND r.kwargs ->> 'durability' = 'exit';
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    -- As all do that change a thread: its row before those of its runs. Until this transaction is over nobody admits a run
    -- to the thread, settles or edits it, and nobody claims the runs that wait.
    PERFORM 1 FROM thread t WHERE t.thread_id = own.thread_id AND t.ended_seq < own.seq FOR SHARE;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    PERFORM 1 FROM run r WHERE r.thread_id = own.thread_id AND (r.run_id = run OR r.status = 'pending') FOR SHARE;
    -- A statement of its own: it sees what the locks have waited for.
    RETURN EXISTS (SELECT 1 FROM run r WHERE r.run_id = run AND r.attempt = token)
        AND NOT EXISTS (SELECT 1 FROM run r WHERE r.thread_id = own.thread_id AND r.started_at > own.started_at);
END $$;

CREATE OR REPLACE FUNCTION assert_owner(run UUID, token BIGINT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM run r WHERE r.run_id = run AND r.attempt = token AND r.status = 'running' FOR SHARE;
    IF NOT FOUND AND NOT is_leaving(run, token) THEN
        RAISE EXCEPTION 'attempt % does not own run %', token, run USING ERRCODE = 'DT001';
    END IF;
    PERFORM set_config('durathread.run_id', run::text, TRUE);
END $$;
