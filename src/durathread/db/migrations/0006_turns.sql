-- Runs of a thread end in the order in which they have started. It need not be that of their admission: a delayed run is
-- overtaken. A run that never started had its turn when it ended.
ALTER TABLE thread ADD COLUMN ended_started_at TIMESTAMPTZ;
UPDATE thread t SET ended_started_at = (
    SELECT max(coalesce(r.started_at, r.ended_at)) FROM run r WHERE r.thread_id = t.thread_id AND r.seq <= t.ended_seq
);
ALTER TABLE thread DROP COLUMN ended_seq;

-- The end of a run and what it leaves to its thread, by the attempt that owns it. False if it does not.
CREATE OR REPLACE FUNCTION end_run(
    run UUID, token BIGINT, final TEXT, rest TEXT, failure JSONB, known BOOLEAN, state JSONB, waiting JSONB, at TEXT
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    ended run%ROWTYPE;
BEGIN
    PERFORM 1 FROM thread t WHERE t.thread_id = (SELECT r.thread_id FROM run r WHERE r.run_id = run) FOR UPDATE;
    UPDATE run r SET status = final, error = failure, checkpoint_id = at, updated_at = now(), ended_at = now()
    WHERE r.run_id = run AND r.attempt = token AND r.status = 'running' RETURNING * INTO ended;
    IF ended.run_id IS NULL THEN
        RETURN FALSE;
    END IF;
    UPDATE thread t SET
        resting = rest,
        status = CASE WHEN EXISTS (SELECT 1 FROM run o WHERE o.thread_id = t.thread_id AND o.status IN ('pending', 'running'))
                 THEN 'busy' ELSE rest END,
        "values" = CASE WHEN known THEN state ELSE t."values" END,
        interrupts = CASE WHEN known THEN waiting ELSE coalesce(t.interrupts, '{}') END,
        error = failure,
        metadata = t.metadata || jsonb_build_object('graph_id', ended.graph_id),
        ended_started_at = ended.started_at, ended_run_id = ended.run_id, hidden = t.temporary,
        updated_at = now(), state_updated_at = now()
    WHERE t.thread_id = ended.thread_id;
    DELETE FROM replaced_write WHERE replaced_by = run::text;
    RETURN TRUE;
END $$;

-- A run of durability `exit` writes when it stops, also when it is told to: where it was is lost otherwise. So it may write
-- once it is interrupted, until its thread shows what it has left, or another run of the thread works.
CREATE OR REPLACE FUNCTION is_leaving(run UUID, token BIGINT) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    own RECORD;
BEGIN
    SELECT r.thread_id, r.started_at INTO own FROM run r
    WHERE r.run_id = run AND r.attempt = token AND r.status = 'interrupted' AND r.kwargs ->> 'durability' = 'exit';
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    -- As all do that change a thread: its row before those of its runs. Until this transaction is over nobody admits a run
    -- to the thread, settles or edits it, and nobody claims the runs that wait.
    PERFORM 1 FROM thread t
    WHERE t.thread_id = own.thread_id AND (t.ended_started_at IS NULL OR t.ended_started_at < own.started_at) FOR SHARE;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    PERFORM 1 FROM run r WHERE r.thread_id = own.thread_id AND (r.run_id = run OR r.status = 'pending') FOR SHARE;
    -- A statement of its own: it sees what the locks have waited for.
    RETURN EXISTS (SELECT 1 FROM run r WHERE r.run_id = run AND r.attempt = token)
        AND NOT EXISTS (SELECT 1 FROM run r WHERE r.thread_id = own.thread_id AND r.started_at > own.started_at);
END $$;
