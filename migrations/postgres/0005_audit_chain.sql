-- The chain of audit rows, where retention cut it off, and the keys that personal fields are sealed under.

ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS chain_writer UUID;
ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS chain_seq BIGINT;
ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS chain_previous TEXT;
ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS chain_hash TEXT;

-- Rows without an org form the chain of the empty one. Not unique: TimescaleDB asks for the time in every unique index, and
-- a doubled row is found by verifying.
CREATE INDEX IF NOT EXISTS audit_events_chain ON audit_events (COALESCE(org_id, ''), chain_writer, chain_seq)
    WHERE chain_writer IS NOT NULL;

CREATE TABLE IF NOT EXISTS audit_anchors (
    org_id TEXT NOT NULL,
    chain_writer UUID NOT NULL,
    chain_seq BIGINT NOT NULL,
    chain_hash TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (org_id, chain_writer, chain_seq, signature)
);

-- A destroyed key stays as a row without it, so that it cannot come back from where it was still waiting to be written.
CREATE TABLE IF NOT EXISTS member_keys (
    key_id UUID PRIMARY KEY,
    org_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    key TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    destroyed_at TIMESTAMPTZ
);

CREATE INDEX IF NOT EXISTS member_keys_member ON member_keys (org_id, member_id);
