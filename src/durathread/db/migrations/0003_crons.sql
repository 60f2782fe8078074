CREATE TABLE cron (
    cron_id          UUID PRIMARY KEY,
    assistant_id     UUID NOT NULL REFERENCES assistant ON DELETE CASCADE,
    -- The thread that it runs on; without one, each run has a thread of its own.
    thread_id        UUID REFERENCES thread ON DELETE CASCADE,
    user_id          TEXT,
    -- What the server puts into the configurable and the metadata of each run: whose it is.
    configurable     JSONB NOT NULL DEFAULT '{}',
    stamp            JSONB NOT NULL DEFAULT '{}',
    schedule         TEXT NOT NULL,
    timezone         TEXT,
    end_time         TIMESTAMPTZ,
    enabled          BOOLEAN NOT NULL,
    on_run_completed TEXT CHECK (on_run_completed IN ('delete', 'keep')),
    payload          JSONB NOT NULL,
    metadata         JSONB NOT NULL,
    -- As it was when the cron last fired or changed: it may be past if it could not fire.
    next_run_date    TIMESTAMPTZ,
    -- Whether its schedule in Temporal says the same as this row.
    scheduled        BOOLEAN NOT NULL DEFAULT FALSE,
    -- When that schedule must be told of further times; null if it goes on by itself.
    refill_at        TIMESTAMPTZ,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX cron_metadata_idx ON cron USING gin (metadata jsonb_path_ops);
CREATE INDEX cron_assistant_idx ON cron (assistant_id);
CREATE INDEX cron_thread_idx ON cron (thread_id);
CREATE INDEX cron_created_idx ON cron (created_at DESC);
CREATE INDEX cron_next_idx ON cron (next_run_date);

-- A time at which a cron was due is taken on once, however often the workflow that it starts is repeated.
CREATE TABLE cron_firing (
    cron_id     UUID NOT NULL REFERENCES cron ON DELETE CASCADE,
    due         TIMESTAMPTZ NOT NULL,
    -- The run, or the reason why there is none.
    run_id      UUID,
    reason      TEXT NOT NULL DEFAULT '',
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (cron_id, due)
);
CREATE INDEX cron_firing_recorded_idx ON cron_firing (recorded_at);
