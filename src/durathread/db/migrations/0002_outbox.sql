-- What is owed to the webhooks of runs that have ended: written in the transaction that ends the run, whichever that is,
-- and deleted when the receiver has it or is given up. It outlives the run and its thread.
CREATE TABLE outbox (
    run_id        UUID PRIMARY KEY,
    thread_id     UUID NOT NULL,
    assistant_id  UUID NOT NULL,
    graph_id      TEXT NOT NULL,
    url           TEXT NOT NULL,
    status        TEXT NOT NULL,
    -- The run as clients see it.
    run           JSONB NOT NULL,
    error         JSONB,
    checkpoint_id TEXT,
    -- Whether the values are here. Those of a run that did not write its own end are read from its last checkpoint.
    known         BOOLEAN NOT NULL DEFAULT FALSE,
    "values"      JSONB,
    interrupts    JSONB,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX outbox_created_idx ON outbox (created_at);

CREATE FUNCTION owe_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ended  run%ROWTYPE := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    final  TEXT := CASE WHEN TG_OP = 'DELETE' THEN 'rollback' ELSE NEW.status END;
    last   TEXT := ended.checkpoint_id;
    shown  thread%ROWTYPE;
BEGIN
    -- Nobody is told of a run that was taken back before it began.
    IF ended.kwargs ->> 'webhook' IS NULL
       OR (ended.started_at IS NULL AND final NOT IN ('success', 'error', 'timeout')) THEN
        RETURN NULL;
    END IF;
    IF final <> 'rollback' THEN
        last := coalesce(last, (
            SELECT max(c.checkpoint_id) FROM checkpoints c
            WHERE c.thread_id = ended.thread_id::text AND c.checkpoint_ns = ''
              AND c.metadata ->> 'run_id' = ended.run_id::text
        ));
        IF last IS NULL THEN
            SELECT * INTO shown FROM thread t WHERE t.thread_id = ended.thread_id;
        END IF;
    END IF;
    INSERT INTO outbox (run_id, thread_id, assistant_id, graph_id, url, status, run, error, checkpoint_id, known,
                        "values", interrupts)
    VALUES (
        ended.run_id, ended.thread_id, ended.assistant_id, ended.graph_id, ended.kwargs ->> 'webhook', final,
        jsonb_build_object(
            'run_id', ended.run_id, 'thread_id', ended.thread_id, 'assistant_id', ended.assistant_id,
            'created_at', ended.created_at, 'updated_at', now(), 'status', final, 'metadata', ended.metadata,
            'kwargs', ended.kwargs, 'multitask_strategy', ended.strategy, 'langsmith_session_name', NULL,
            'cancel_reason', CASE WHEN final = 'interrupted' THEN ended.error ->> 'message' END,
            'run_started_at', ended.started_at, 'run_ended_at', now()
        ),
        CASE WHEN final IN ('error', 'timeout') THEN ended.error END, last, last IS NULL, shown."values", shown.interrupts
    ) ON CONFLICT (run_id) DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER owe_webhook_of_ended AFTER UPDATE OF status ON run FOR EACH ROW
    WHEN (OLD.status IN ('pending', 'running') AND NEW.status NOT IN ('pending', 'running'))
    EXECUTE FUNCTION owe_webhook();
CREATE TRIGGER owe_webhook_of_deleted AFTER DELETE ON run FOR EACH ROW
    WHEN (OLD.status IN ('pending', 'running'))
    EXECUTE FUNCTION owe_webhook();

-- What a run left is what its thread shows when it shows the run's end.
CREATE FUNCTION complete_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE outbox o SET known = TRUE, "values" = NEW."values", interrupts = NEW.interrupts
    WHERE o.run_id = NEW.ended_run_id AND o.status <> 'rollback';
    RETURN NULL;
END $$;
CREATE TRIGGER complete_webhook AFTER UPDATE OF ended_run_id ON thread FOR EACH ROW
    WHEN (NEW.ended_run_id IS NOT NULL AND NEW.ended_run_id IS DISTINCT FROM OLD.ended_run_id)
    EXECUTE FUNCTION complete_webhook();
