-- Who this database is, and which task queue of Temporal is its own unless another is set. One that has served before keeps
-- the queue that its workflows are on.
CREATE TABLE deployment (
    singleton BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    deployment_id UUID NOT NULL,
    task_queue TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
INSERT INTO deployment (deployment_id, task_queue)
SELECT own.id, CASE WHEN EXISTS (SELECT 1 FROM thread) OR EXISTS (SELECT 1 FROM cron) THEN 'durathread'
               ELSE 'durathread-' || left(replace(own.id::text, '-', ''), 12) END
FROM (SELECT gen_random_uuid() AS id) own;
