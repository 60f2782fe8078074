-- The functions and triggers as they are now. `migrate` applies this file after the migrations, again each time: a function
-- is changed here, and what its change needs of tables is a migration. One that goes, or takes other arguments, is dropped by
-- a migration.

CREATE OR REPLACE FUNCTION stamp_checkpoint_write() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    author TEXT := nullif(current_setting('durathread.run_id', TRUE), '');
BEGIN
    IF TG_OP = 'UPDATE' AND author IS NOT NULL AND OLD.run_id IS DISTINCT FROM author THEN
        INSERT INTO replaced_write VALUES (
            author, OLD.thread_id, OLD.checkpoint_ns, OLD.checkpoint_id, OLD.task_id, OLD.idx,
            OLD.channel, OLD.type, OLD.blob, OLD.task_path, OLD.run_id
        ) ON CONFLICT DO NOTHING;
    END IF;
    IF author IS NOT NULL THEN
        NEW.run_id := author;
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION assert_owner(run UUID, token BIGINT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM run r WHERE r.run_id = run AND r.attempt = token AND r.status = 'running' FOR SHARE;
    IF NOT FOUND AND NOT is_leaving(run, token) THEN
        RAISE EXCEPTION 'attempt % does not own run %', token, run USING ERRCODE = 'DT001';
    END IF;
    PERFORM set_config('durathread.run_id', run::text, TRUE);
END $$;

CREATE OR REPLACE FUNCTION assert_idle(thread UUID) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM thread t WHERE t.thread_id = thread FOR UPDATE;
    IF NOT FOUND OR EXISTS (
        SELECT 1 FROM run r WHERE r.thread_id = thread AND r.status IN ('pending', 'running')
    ) THEN
        RAISE EXCEPTION 'thread % is busy or gone', thread USING ERRCODE = 'DT002';
    END IF;
END $$;

-- A checkpoint, or the writes of a task, with their fence: one statement, so one round trip and one transaction.
CREATE OR REPLACE FUNCTION pass_fence(owner UUID, token BIGINT, idle UUID) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF owner IS NOT NULL THEN
        PERFORM assert_owner(owner, token);
    ELSIF idle IS NOT NULL THEN
        PERFORM assert_idle(idle);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION put_checkpoint(
    owner UUID, token BIGINT, idle UUID, thread TEXT, ns TEXT, id TEXT, parent TEXT, body JSONB, meta JSONB,
    channels TEXT[], versions TEXT[], types TEXT[], blobs BYTEA[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pass_fence(owner, token, idle);
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT thread, ns, b.channel, b.version, b.type, b.blob
    FROM unnest(channels, versions, types, blobs) AS b (channel, version, type, blob)
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING;
    INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    VALUES (thread, ns, id, parent, body, meta)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
    DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata;
END $$;

-- What a task came to replaces what was stored when it failed: the error, and what earlier versions stored of its output.
-- As everywhere, the rollback of a run brings back what it replaced of other runs.
CREATE OR REPLACE FUNCTION put_writes(
    owner UUID, token BIGINT, idle UUID, thread TEXT, ns TEXT, id TEXT, task TEXT, path TEXT, overwrite BOOLEAN,
    idxs INTEGER[], channels TEXT[], types TEXT[], blobs BYTEA[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pass_fence(owner, token, idle);
    IF overwrite THEN
        INSERT INTO checkpoint_writes
            (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
        SELECT thread, ns, id, task, path, w.idx, w.channel, w.type, w.blob
        FROM unnest(idxs, channels, types, blobs) AS w (idx, channel, type, blob)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
        DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob;
    ELSE
        IF '__error__' <> ALL (channels) AND EXISTS (
            SELECT 1 FROM checkpoint_writes w
            WHERE w.thread_id = thread AND w.checkpoint_ns = ns AND w.checkpoint_id = id AND w.task_id = task
              AND w.channel = '__error__'
        ) THEN
            WITH gone AS (
                DELETE FROM checkpoint_writes w
                WHERE w.thread_id = thread AND w.checkpoint_ns = ns AND w.checkpoint_id = id AND w.task_id = task
                  AND (w.channel = '__error__' OR w.idx >= 0)
                RETURNING *
            )
            INSERT INTO replaced_write
            SELECT owner::text, g.thread_id, g.checkpoint_ns, g.checkpoint_id, g.task_id, g.idx, g.channel, g.type, g.blob,
                   g.task_path, g.run_id
            FROM gone g WHERE owner IS NOT NULL AND g.run_id IS DISTINCT FROM owner::text
            ON CONFLICT DO NOTHING;
        END IF;
        INSERT INTO checkpoint_writes
            (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
        SELECT thread, ns, id, task, path, w.idx, w.channel, w.type, w.blob
        FROM unnest(idxs, channels, types, blobs) AS w (idx, channel, type, blob)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING;
    END IF;
END $$;

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

CREATE OR REPLACE TRIGGER stamp_checkpoint_write BEFORE INSERT OR UPDATE ON checkpoint_writes
    FOR EACH ROW EXECUTE FUNCTION stamp_checkpoint_write();

CREATE OR REPLACE FUNCTION owe_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
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

-- What a run left is what its thread shows when it shows the run's end.
CREATE OR REPLACE FUNCTION complete_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE outbox o SET known = TRUE, "values" = NEW."values", interrupts = NEW.interrupts
    WHERE o.run_id = NEW.ended_run_id AND o.status <> 'rollback';
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER owe_webhook_of_ended AFTER UPDATE OF status ON run FOR EACH ROW
    WHEN (OLD.status IN ('pending', 'running') AND NEW.status NOT IN ('pending', 'running'))
    EXECUTE FUNCTION owe_webhook();

CREATE OR REPLACE TRIGGER owe_webhook_of_deleted AFTER DELETE ON run FOR EACH ROW
    WHEN (OLD.status IN ('pending', 'running'))
    EXECUTE FUNCTION owe_webhook();

CREATE OR REPLACE TRIGGER complete_webhook AFTER UPDATE OF ended_run_id ON thread FOR EACH ROW
    WHEN (NEW.ended_run_id IS NOT NULL AND NEW.ended_run_id IS DISTINCT FROM OLD.ended_run_id)
    EXECUTE FUNCTION complete_webhook();

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

-- The size of JSON before it is compressed: what is written and what is deleted must count the same.
CREATE OR REPLACE FUNCTION json_bytes(document JSONB) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(pg_column_size(document #> '{}'), 0)::bigint
$$;

-- What a row takes besides: its head, its ids and its places in indexes, roughly.
CREATE OR REPLACE FUNCTION row_bytes() RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$ SELECT 100::bigint $$;

CREATE OR REPLACE FUNCTION thread_row_bytes(metadata JSONB, config JSONB, state JSONB, interrupts JSONB, error JSONB)
RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT row_bytes() + json_bytes(metadata) + json_bytes(config) + json_bytes(state) + json_bytes(interrupts)
         + json_bytes(error)
$$;

CREATE OR REPLACE FUNCTION run_row_bytes(metadata JSONB, kwargs JSONB, error JSONB, opening JSONB)
RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT row_bytes() + json_bytes(metadata) + json_bytes(kwargs) + json_bytes(error) + json_bytes(opening)
$$;

-- All of a thread but its own row.
CREATE OR REPLACE FUNCTION thread_content_bytes(thread UUID) RETURNS BIGINT LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT sum(run_row_bytes(r.metadata, r.kwargs, r.error, r.opening)) FROM run r
                     WHERE r.thread_id = thread), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + json_bytes(c.checkpoint) + json_bytes(c.metadata)) FROM checkpoints c
                     WHERE c.thread_id = thread::text), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + coalesce(octet_length(b.blob), 0)) FROM checkpoint_blobs b
                     WHERE b.thread_id = thread::text), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + octet_length(w.blob)) FROM checkpoint_writes w
                     WHERE w.thread_id = thread::text), 0)::bigint
$$;

CREATE OR REPLACE FUNCTION measured_bytes(who TEXT) RETURNS BIGINT LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT sum(thread_row_bytes(t.metadata, t.config, t."values", t.interrupts, t.error)
                                + thread_content_bytes(t.thread_id)) FROM thread t WHERE t.holder = who), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + json_bytes(s.value)) FROM store s
                     WHERE s.durathread_holder = who), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + json_bytes(c.payload) + json_bytes(c.metadata)) FROM cron c
                     WHERE c.holder = who), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + json_bytes(v.config) + json_bytes(v.context) + json_bytes(v.metadata))
                     FROM assistant_version v WHERE v.holder = who), 0)::bigint
$$;

CREATE OR REPLACE FUNCTION note_stored(who TEXT, grown BIGINT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF who IS NOT NULL AND grown <> 0 THEN
        INSERT INTO stored_change (holder, bytes) VALUES (who, grown);
    END IF;
END $$;

-- Whose a thread is, or was before this transaction deleted it: what it has held is deleted afterwards.
CREATE OR REPLACE FUNCTION holder_of_thread(thread TEXT) RETURNS TEXT LANGUAGE plpgsql STABLE AS $$
DECLARE
    who  TEXT;
    gone TEXT := coalesce(current_setting('durathread.gone', TRUE), '');
BEGIN
    -- Other programs' savers may name threads as they like.
    IF thread !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        RETURN NULL;
    END IF;
    SELECT t.holder INTO who FROM thread t WHERE t.thread_id = thread::uuid;
    IF NOT FOUND AND starts_with(gone, thread || '=') THEN
        RETURN substr(gone, length(thread) + 2);
    END IF;
    RETURN who;
END $$;

CREATE OR REPLACE FUNCTION note_gone_thread() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.holder IS NOT NULL THEN
        PERFORM set_config('durathread.gone', OLD.thread_id::text || '=' || OLD.holder, TRUE);
    END IF;
    RETURN OLD;
END $$;

CREATE OR REPLACE FUNCTION note_thread() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before  BIGINT := 0;
    after   BIGINT := 0;
    content BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        before := thread_row_bytes(OLD.metadata, OLD.config, OLD."values", OLD.interrupts, OLD.error);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        after := thread_row_bytes(NEW.metadata, NEW.config, NEW."values", NEW.interrupts, NEW.error);
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.holder IS NOT DISTINCT FROM NEW.holder THEN
        PERFORM note_stored(NEW.holder, after - before);
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        content := thread_content_bytes(NEW.thread_id);
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_stored(OLD.holder, -before - content);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_stored(NEW.holder, after + content);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION note_run() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    grown BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        grown := -run_row_bytes(OLD.metadata, OLD.kwargs, OLD.error, OLD.opening);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        grown := grown + run_row_bytes(NEW.metadata, NEW.kwargs, NEW.error, NEW.opening);
    END IF;
    PERFORM note_stored(holder_of_thread(coalesce(NEW.thread_id, OLD.thread_id)::text), grown);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION note_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    grown BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        grown := -row_bytes() - json_bytes(OLD.checkpoint) - json_bytes(OLD.metadata);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        grown := grown + row_bytes() + json_bytes(NEW.checkpoint) + json_bytes(NEW.metadata);
    END IF;
    PERFORM note_stored(holder_of_thread(coalesce(NEW.thread_id, OLD.thread_id)), grown);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION note_blob() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    grown BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        grown := -row_bytes() - coalesce(octet_length(OLD.blob), 0);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        grown := grown + row_bytes() + coalesce(octet_length(NEW.blob), 0);
    END IF;
    PERFORM note_stored(holder_of_thread(coalesce(NEW.thread_id, OLD.thread_id)), grown);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION note_item() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_stored(OLD.durathread_holder, -row_bytes() - json_bytes(OLD.value));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_stored(NEW.durathread_holder, row_bytes() + json_bytes(NEW.value));
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION note_cron() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_stored(OLD.holder, -row_bytes() - json_bytes(OLD.payload) - json_bytes(OLD.metadata));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_stored(NEW.holder, row_bytes() + json_bytes(NEW.payload) + json_bytes(NEW.metadata));
    END IF;
    RETURN NULL;
END $$;

-- The row of an assistant says what one of its versions says.
CREATE OR REPLACE FUNCTION note_assistant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_stored(
            OLD.holder, -row_bytes() - json_bytes(OLD.config) - json_bytes(OLD.context) - json_bytes(OLD.metadata));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_stored(
            NEW.holder, row_bytes() + json_bytes(NEW.config) + json_bytes(NEW.context) + json_bytes(NEW.metadata));
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER note_gone_thread BEFORE DELETE ON thread FOR EACH ROW
    WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_gone_thread();

CREATE OR REPLACE TRIGGER note_thread AFTER INSERT OR DELETE OR UPDATE OF metadata, config, "values", interrupts, error, holder
    ON thread FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_thread();

CREATE OR REPLACE TRIGGER note_run AFTER INSERT OR DELETE OR UPDATE OF metadata, kwargs, error, opening
    ON run FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_run();

CREATE OR REPLACE TRIGGER note_checkpoint AFTER INSERT OR DELETE OR UPDATE OF checkpoint, metadata
    ON checkpoints FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on')
    EXECUTE FUNCTION note_checkpoint();

CREATE OR REPLACE TRIGGER note_blob AFTER INSERT OR DELETE OR UPDATE OF blob
    ON checkpoint_blobs FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on')
    EXECUTE FUNCTION note_blob();

CREATE OR REPLACE TRIGGER note_write AFTER INSERT OR DELETE OR UPDATE OF blob
    ON checkpoint_writes FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on')
    EXECUTE FUNCTION note_blob();

CREATE OR REPLACE TRIGGER note_item AFTER INSERT OR DELETE OR UPDATE OF value, durathread_holder
    ON store FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_item();

CREATE OR REPLACE TRIGGER note_cron AFTER INSERT OR DELETE OR UPDATE OF payload, metadata
    ON cron FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_cron();

CREATE OR REPLACE TRIGGER note_assistant AFTER INSERT OR DELETE OR UPDATE OF config, context, metadata, holder
    ON assistant_version FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on')
    EXECUTE FUNCTION note_assistant();
