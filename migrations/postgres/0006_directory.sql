-- The directory of orgs and members. Columns are the fields of `identity::directory::{Org, Member}`.

-- The number of the last change; every changed row carries its own. Whoever writes takes the next one first, so that changes
-- become visible in the order of their numbers.
CREATE TABLE IF NOT EXISTS directory_revision (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    revision BIGINT NOT NULL
);
INSERT INTO directory_revision (revision) VALUES (0) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS orgs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    domains TEXT NOT NULL,
    plan TEXT,
    time_zone TEXT NOT NULL,
    status TEXT NOT NULL,
    policy TEXT,
    tenant_id TEXT,
    join_by TEXT NOT NULL,
    language TEXT,
    capture TEXT NOT NULL,
    legal_hold BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS orgs_revision ON orgs (revision);

CREATE TABLE IF NOT EXISTS members (
    id UUID PRIMARY KEY,
    org_id TEXT NOT NULL,
    external_id TEXT,
    librechat_id TEXT UNIQUE,
    email TEXT,
    name TEXT,
    role TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    last_seen TIMESTAMPTZ,
    revision BIGINT NOT NULL,
    UNIQUE (org_id, external_id)
);
CREATE INDEX IF NOT EXISTS members_revision ON members (revision);
CREATE INDEX IF NOT EXISTS members_email ON members (org_id, email);
