-- What orgs are billed by, and who did what. Columns are the fields of `records::UsageRow` and `records::AuditRow`.
-- Times are RFC 3339 in UTC with six decimals, so that they sort as text; ids are hyphenated lowercase UUIDs; detail is JSON.

CREATE TABLE IF NOT EXISTS usage_events (
    id TEXT NOT NULL,
    time TEXT NOT NULL,
    generation_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    agent_id TEXT,
    conversation_id TEXT,
    messages INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    price_version TEXT NOT NULL,
    usage_source TEXT NOT NULL,
    estimate_tokens INTEGER NOT NULL,
    status TEXT NOT NULL,
    time_to_first_token_ms INTEGER,
    duration_ms INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    PRIMARY KEY (id, time)
) STRICT;

CREATE INDEX IF NOT EXISTS usage_events_time ON usage_events (time);
CREATE INDEX IF NOT EXISTS usage_events_org ON usage_events (org_id, time);
CREATE INDEX IF NOT EXISTS usage_events_member ON usage_events (member_id, time);
CREATE INDEX IF NOT EXISTS usage_events_generation ON usage_events (generation_id);
CREATE INDEX IF NOT EXISTS usage_events_conversation ON usage_events (conversation_id) WHERE conversation_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS audit_events (
    id TEXT NOT NULL,
    time TEXT NOT NULL,
    category TEXT NOT NULL,
    severity TEXT NOT NULL,
    org_id TEXT,
    actor_id TEXT,
    actor_name TEXT,
    actor_role TEXT,
    action TEXT NOT NULL,
    resource_type TEXT,
    resource_id TEXT,
    outcome TEXT NOT NULL,
    request_id TEXT,
    method TEXT,
    path TEXT,
    query TEXT,
    status INTEGER,
    duration_ms INTEGER,
    error TEXT,
    address TEXT,
    user_agent TEXT,
    conversation_id TEXT,
    model TEXT,
    total_tokens INTEGER,
    cost_nanousd INTEGER,
    count INTEGER NOT NULL,
    reference TEXT,
    detail TEXT,
    PRIMARY KEY (id, time)
) STRICT;

CREATE INDEX IF NOT EXISTS audit_events_time ON audit_events (time);
CREATE INDEX IF NOT EXISTS audit_events_org ON audit_events (org_id, time) WHERE org_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS audit_events_actor ON audit_events (actor_id, time) WHERE actor_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS audit_events_category ON audit_events (category, time);
CREATE INDEX IF NOT EXISTS audit_events_severity ON audit_events (severity, time);
CREATE INDEX IF NOT EXISTS audit_events_reference ON audit_events (reference) WHERE reference IS NOT NULL;
CREATE INDEX IF NOT EXISTS audit_events_conversation ON audit_events (conversation_id) WHERE conversation_id IS NOT NULL;
