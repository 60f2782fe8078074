-- Whether there is anything to repair or to expire is asked of the database alone, and one process at a time acts on the
-- answer: when one last did.
ALTER TABLE deployment ADD COLUMN swept_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity';
ALTER TABLE deployment ADD COLUMN crons_compared_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity';
ALTER TABLE deployment ADD COLUMN expired_at TIMESTAMPTZ NOT NULL DEFAULT now();
-- When the workflow of its thread was last asked for a run, and held it: it is asked less and less often.
ALTER TABLE run ADD COLUMN asked_at TIMESTAMPTZ;
