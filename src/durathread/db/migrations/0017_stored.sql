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

-- The size of JSON before it is compressed: what is written and what is deleted must count the same.
CREATE FUNCTION json_bytes(document JSONB) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(pg_column_size(document #> '{}'), 0)::bigint
$$;
-- What a row takes besides: its head, its ids and its places in indexes, roughly.
CREATE FUNCTION row_bytes() RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$ SELECT 100::bigint $$;

CREATE FUNCTION thread_row_bytes(metadata JSONB, config JSONB, state JSONB, interrupts JSONB, error JSONB)
RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT row_bytes() + json_bytes(metadata) + json_bytes(config) + json_bytes(state) + json_bytes(interrupts)
         + json_bytes(error)
$$;
CREATE FUNCTION run_row_bytes(metadata JSONB, kwargs JSONB, error JSONB, opening JSONB)
RETURNS BIGINT LANGUAGE sql IMMUTABLE AS $$
    SELECT row_bytes() + json_bytes(metadata) + json_bytes(kwargs) + json_bytes(error) + json_bytes(opening)
$$;

-- All of a thread but its own row.
CREATE FUNCTION thread_content_bytes(thread UUID) RETURNS BIGINT LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT sum(run_row_bytes(r.metadata, r.kwargs, r.error, r.opening)) FROM run r
                     WHERE r.thread_id = thread), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + json_bytes(c.checkpoint) + json_bytes(c.metadata)) FROM checkpoints c
                     WHERE c.thread_id = thread::text), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + coalesce(octet_length(b.blob), 0)) FROM checkpoint_blobs b
                     WHERE b.thread_id = thread::text), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + octet_length(w.blob)) FROM checkpoint_writes w
                     WHERE w.thread_id = thread::text), 0)::bigint
$$;
CREATE FUNCTION measured_bytes(who TEXT) RETURNS BIGINT LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT sum(thread_row_bytes(t.metadata, t.config, t."values", t.interrupts, t.error)
                                + thread_content_bytes(t.thread_id)) FROM thread t WHERE t.holder = who), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + json_bytes(s.value)) FROM store s
                     WHERE s.durathread_holder = who), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + json_bytes(c.payload) + json_bytes(c.metadata)) FROM cron c
                     WHERE c.holder = who), 0)::bigint
         + coalesce((SELECT sum(row_bytes() + json_bytes(v.config) + json_bytes(v.context) + json_bytes(v.metadata))
                     FROM assistant_version v WHERE v.holder = who), 0)::bigint
$$;

CREATE FUNCTION note_stored(who TEXT, grown BIGINT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF who IS NOT NULL AND grown <> 0 THEN
        INSERT INTO stored_change (holder, bytes) VALUES (who, grown);
    END IF;
END $$;

-- Whose a thread is, or was before this transaction deleted it: what it has held is deleted afterwards.
CREATE FUNCTION holder_of_thread(thread TEXT) RETURNS TEXT LANGUAGE plpgsql STABLE AS $$
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

CREATE FUNCTION note_gone_thread() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.holder IS NOT NULL THEN
        PERFORM set_config('durathread.gone', OLD.thread_id::text || '=' || OLD.holder, TRUE);
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER note_gone_thread BEFORE DELETE ON thread FOR EACH ROW
    WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_gone_thread();

CREATE FUNCTION note_thread() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER note_thread AFTER INSERT OR DELETE OR UPDATE OF metadata, config, "values", interrupts, error, holder
    ON thread FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_thread();

CREATE FUNCTION note_run() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER note_run AFTER INSERT OR DELETE OR UPDATE OF metadata, kwargs, error, opening
    ON run FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_run();

CREATE FUNCTION note_checkpoint() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER note_checkpoint AFTER INSERT OR DELETE OR UPDATE OF checkpoint, metadata
    ON checkpoints FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on')
    EXECUTE FUNCTION note_checkpoint();

CREATE FUNCTION note_blob() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER note_blob AFTER INSERT OR DELETE OR UPDATE OF blob
    ON checkpoint_blobs FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on')
    EXECUTE FUNCTION note_blob();
CREATE TRIGGER note_write AFTER INSERT OR DELETE OR UPDATE OF blob
    ON checkpoint_writes FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on')
    EXECUTE FUNCTION note_blob();

CREATE FUNCTION note_item() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_stored(OLD.durathread_holder, -row_bytes() - json_bytes(OLD.value));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_stored(NEW.durathread_holder, row_bytes() + json_bytes(NEW.value));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_item AFTER INSERT OR DELETE OR UPDATE OF value, durathread_holder
    ON store FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_item();

CREATE FUNCTION note_cron() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM note_stored(OLD.holder, -row_bytes() - json_bytes(OLD.payload) - json_bytes(OLD.metadata));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM note_stored(NEW.holder, row_bytes() + json_bytes(NEW.payload) + json_bytes(NEW.metadata));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_cron AFTER INSERT OR DELETE OR UPDATE OF payload, metadata
    ON cron FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on') EXECUTE FUNCTION note_cron();

-- The row of an assistant says what one of its versions says.
CREATE FUNCTION note_assistant() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER note_assistant AFTER INSERT OR DELETE OR UPDATE OF config, context, metadata, holder
    ON assistant_version FOR EACH ROW WHEN (current_setting('durathread.counts', TRUE) = 'on')
    EXECUTE FUNCTION note_assistant();
