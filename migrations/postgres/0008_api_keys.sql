-- API keys of members, the keys that LibreChat made for people, and where a member may come from. Keys are kept as their
-- SHA-256 only. Columns are the fields of `identity::keys::{ApiKey, AgentKey}`.

CREATE TABLE IF NOT EXISTS api_keys (
    id UUID PRIMARY KEY,
    secret_hash TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL,
    member_id UUID NOT NULL,
    name TEXT NOT NULL,
    ending TEXT NOT NULL,
    scopes TEXT NOT NULL,
    addresses TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    last_used_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    revision BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS api_keys_member ON api_keys (org_id, member_id);
CREATE INDEX IF NOT EXISTS api_keys_expiry ON api_keys (expires_at);
CREATE INDEX IF NOT EXISTS api_keys_revision ON api_keys (revision);

-- A forgotten one stays for a while, so that every replica hears of it.
CREATE TABLE IF NOT EXISTS agent_keys (
    key_hash TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    forgotten_at TIMESTAMPTZ,
    revision BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS agent_keys_owner ON agent_keys (owner_id, key_id);
CREATE INDEX IF NOT EXISTS agent_keys_revision ON agent_keys (revision);

ALTER TABLE members ADD COLUMN IF NOT EXISTS addresses TEXT;
