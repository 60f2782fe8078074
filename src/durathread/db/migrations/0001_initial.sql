CREATE TABLE assistant (
    assistant_id UUID PRIMARY KEY,
    graph_id     TEXT NOT NULL,
    name         TEXT NOT NULL,
    description  TEXT,
    config       JSONB NOT NULL DEFAULT '{}',
    context      JSONB NOT NULL DEFAULT '{}',
    metadata     JSONB NOT NULL DEFAULT '{}',
    version      INTEGER NOT NULL DEFAULT 1,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at   TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX assistant_metadata_idx ON assistant USING gin (metadata jsonb_path_ops);
CREATE INDEX assistant_created_idx ON assistant (created_at DESC);

CREATE TABLE assistant_version (
    assistant_id UUID NOT NULL REFERENCES assistant ON DELETE CASCADE,
    version      INTEGER NOT NULL,
    graph_id     TEXT NOT NULL,
    name         TEXT NOT NULL,
    description  TEXT,
    config       JSONB NOT NULL,
    context      JSONB NOT NULL,
    metadata     JSONB NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (assistant_id, version)
);

CREATE TABLE thread (
    thread_id        UUID PRIMARY KEY,
    status           TEXT NOT NULL DEFAULT 'idle' CHECK (status IN ('idle', 'busy', 'interrupted', 'error')),
    -- What the status is while no run is in flight.
    resting          TEXT NOT NULL DEFAULT 'idle' CHECK (resting IN ('idle', 'interrupted', 'error')),
    metadata         JSONB NOT NULL DEFAULT '{}',
    config           JSONB NOT NULL DEFAULT '{}',
    "values"         JSONB,
    interrupts       JSONB,
    error            JSONB,
    -- The admission number of the last run whose end is in this row, and that run.
    ended_seq        BIGINT NOT NULL DEFAULT 0,
    ended_run_id     UUID,
    -- A thread of a stateless run: invisible as soon as its run has ended.
    temporary        BOOLEAN NOT NULL DEFAULT FALSE,
    hidden           BOOLEAN NOT NULL DEFAULT FALSE,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    state_updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX thread_metadata_idx ON thread USING gin (metadata jsonb_path_ops);
CREATE INDEX thread_updated_idx ON thread (updated_at DESC);
CREATE INDEX thread_status_idx ON thread (status);

CREATE TABLE run (
    run_id       UUID PRIMARY KEY,
    thread_id    UUID NOT NULL REFERENCES thread ON DELETE CASCADE,
    assistant_id UUID NOT NULL,
    graph_id     TEXT NOT NULL,
    -- Order of admission.
    seq          BIGINT GENERATED ALWAYS AS IDENTITY,
    status       TEXT NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')),
    strategy     TEXT NOT NULL DEFAULT 'enqueue',
    metadata     JSONB NOT NULL DEFAULT '{}',
    kwargs       JSONB NOT NULL DEFAULT '{}',
    error        JSONB,
    -- The checkpoint that the run ended on.
    checkpoint_id TEXT,
    -- The fence: only the attempt whose token stands here may write.
    attempt      BIGINT NOT NULL DEFAULT 0,
    step         INTEGER NOT NULL DEFAULT -1,
    -- Whether that attempt repeats a step, and how often that has happened.
    repeated     BOOLEAN NOT NULL DEFAULT FALSE,
    retries      INTEGER NOT NULL DEFAULT 0,
    -- What a repeated first step must know of how things stood before it: see src/durathread/steps/first_input.py.
    opening      JSONB,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    started_at   TIMESTAMPTZ,
    ended_at     TIMESTAMPTZ
);
CREATE INDEX run_thread_idx ON run (thread_id, created_at DESC);
CREATE INDEX run_in_flight_idx ON run (thread_id) WHERE status IN ('pending', 'running');
CREATE INDEX run_assistant_idx ON run (assistant_id);

-- Whose writes a checkpoint carries: a run that resumes another run's checkpoint writes onto it, and its rollback must
-- take just those writes away again, and bring back what they replaced.
ALTER TABLE checkpoint_writes ADD COLUMN run_id TEXT;
CREATE INDEX checkpoint_writes_run_idx ON checkpoint_writes (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX checkpoints_run_idx ON checkpoints (thread_id, (metadata ->> 'run_id'));

CREATE TABLE replaced_write (
    replaced_by   TEXT NOT NULL,
    thread_id     TEXT NOT NULL,
    checkpoint_ns TEXT NOT NULL,
    checkpoint_id TEXT NOT NULL,
    task_id       TEXT NOT NULL,
    idx           INTEGER NOT NULL,
    channel       TEXT NOT NULL,
    type          TEXT,
    blob          BYTEA NOT NULL,
    task_path     TEXT NOT NULL,
    run_id        TEXT,
    PRIMARY KEY (replaced_by, thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);

CREATE FUNCTION stamp_checkpoint_write() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER stamp_checkpoint_write BEFORE INSERT OR UPDATE ON checkpoint_writes
    FOR EACH ROW EXECUTE FUNCTION stamp_checkpoint_write();

-- Both fences are the first statement of a transaction that writes checkpoints; see docs/decisions.
CREATE FUNCTION assert_owner(run UUID, token BIGINT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM run r WHERE r.run_id = run AND r.attempt = token AND r.status = 'running' FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'attempt % does not own run %', token, run USING ERRCODE = 'DT001';
    END IF;
    PERFORM set_config('durathread.run_id', run::text, TRUE);
END $$;

CREATE FUNCTION assert_idle(thread UUID) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM thread t WHERE t.thread_id = thread FOR UPDATE;
    IF NOT FOUND OR EXISTS (
        SELECT 1 FROM run r WHERE r.thread_id = thread AND r.status IN ('pending', 'running')
    ) THEN
        RAISE EXCEPTION 'thread % is busy or gone', thread USING ERRCODE = 'DT002';
    END IF;
END $$;

-- A checkpoint, or the writes of a task, with their fence: one statement, so one round trip and one transaction.
CREATE FUNCTION pass_fence(owner UUID, token BIGINT, idle UUID) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF owner IS NOT NULL THEN
        PERFORM assert_owner(owner, token);
    ELSIF idle IS NOT NULL THEN
        PERFORM assert_idle(idle);
    END IF;
END $$;

CREATE FUNCTION put_checkpoint(
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

CREATE FUNCTION put_writes(
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
        INSERT INTO checkpoint_writes
            (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
        SELECT thread, ns, id, task, path, w.idx, w.channel, w.type, w.blob
        FROM unnest(idxs, channels, types, blobs) AS w (idx, channel, type, blob)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING;
    END IF;
END $$;

-- The end of a run and what it leaves to its thread, by the attempt that owns it. False if it does not.
CREATE FUNCTION end_run(
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
        ended_seq = ended.seq, ended_run_id = ended.run_id, hidden = t.temporary,
        updated_at = now(), state_updated_at = now()
    WHERE t.thread_id = ended.thread_id;
    DELETE FROM replaced_write WHERE replaced_by = run::text;
    RETURN TRUE;
END $$;
