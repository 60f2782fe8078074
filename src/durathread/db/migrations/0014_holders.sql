-- Whose a run or a cron is, as quotas count them; empty if nobody says. Null for those of before, which are not counted.
ALTER TABLE run ADD COLUMN holder TEXT;
ALTER TABLE cron ADD COLUMN holder TEXT;
CREATE INDEX run_holder_idx ON run (holder) WHERE status IN ('pending', 'running');
CREATE INDEX cron_holder_idx ON cron (holder);
