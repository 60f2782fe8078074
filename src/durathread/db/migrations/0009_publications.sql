-- Until when somebody is telling Temporal what a cron's row says. It stands for a lock on the row, and holds no connection.
ALTER TABLE cron ADD COLUMN publishing_until TIMESTAMPTZ;
