-- What was billed, and what was corrected afterwards. Columns are the fields of `records::ledger`.

-- Differences in cost of usage rows that were rated anew. A row's cost is its own and all of its corrections'.
CREATE TABLE IF NOT EXISTS usage_corrections (
    id UUID NOT NULL PRIMARY KEY,
    time TIMESTAMPTZ NOT NULL,
    usage_id UUID NOT NULL,
    usage_time TIMESTAMPTZ NOT NULL,
    generation_id UUID NOT NULL,
    org_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    model TEXT NOT NULL,
    cost_difference_nanousd BIGINT NOT NULL,
    price_version TEXT NOT NULL,
    reason TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS usage_corrections_usage ON usage_corrections (usage_id);
CREATE INDEX IF NOT EXISTS usage_corrections_time ON usage_corrections (usage_time);
CREATE INDEX IF NOT EXISTS usage_corrections_org ON usage_corrections (org_id, org_month);

-- Months that are closed: what was said is said for ever. The hash is SHA-256 of the content, as it stands here, in hex.
CREATE TABLE IF NOT EXISTS statements (
    org_id TEXT NOT NULL,
    month TEXT NOT NULL,
    closed_at TIMESTAMPTZ NOT NULL,
    content TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (org_id, month)
);

CREATE INDEX IF NOT EXISTS usage_events_month ON usage_events (org_id, org_month);
