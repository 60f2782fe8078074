-- Requests that their senders may repeat, by the `Idempotency-Key` that they gave: for a day.
CREATE TABLE idempotency (
    -- Who has sent it, and where to.
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    -- Of all else that was sent.
    fingerprint BYTEA NOT NULL,
    -- The ids of what is made follow from it.
    seed        UUID NOT NULL DEFAULT gen_random_uuid(),
    -- Whether it was made: set by the transaction that makes it.
    made        BOOLEAN NOT NULL DEFAULT FALSE,
    answer      JSONB,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_created_idx ON idempotency (created_at);
