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
