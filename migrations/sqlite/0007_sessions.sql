-- People who were signed in through Tollgate: codes that open a session once, and the sessions. Secrets are kept as their
-- SHA-256 only. Columns are the fields of `identity::sessions::{HandOff, Session}`.

CREATE TABLE IF NOT EXISTS hand_offs (
    code_hash TEXT PRIMARY KEY,
    org_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    plan TEXT,
    org_tokens_per_month INTEGER,
    made_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    redeemed_at TEXT
);
CREATE INDEX IF NOT EXISTS hand_offs_expiry ON hand_offs (expires_at);

CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    secret_hash TEXT NOT NULL UNIQUE,
    org_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    plan TEXT,
    org_tokens_per_month INTEGER,
    started_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    revoked_at TEXT,
    revision INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_member ON sessions (member_id);
CREATE INDEX IF NOT EXISTS sessions_expiry ON sessions (expires_at);
CREATE INDEX IF NOT EXISTS sessions_revoked ON sessions (revision) WHERE revoked_at IS NOT NULL;
