-- More of what is written down: the org's day on audit rows, tool calls, and how the machine did.

ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS org_day TEXT;

CREATE TABLE IF NOT EXISTS tool_calls (
    id UUID NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    generation_id UUID NOT NULL,
    org_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    conversation_id TEXT,
    tool TEXT NOT NULL,
    mcp_server TEXT,
    outcome TEXT NOT NULL,
    duration_ms BIGINT,
    error TEXT,
    PRIMARY KEY (id, time)
);

CREATE INDEX IF NOT EXISTS tool_calls_time ON tool_calls (time);
CREATE INDEX IF NOT EXISTS tool_calls_org ON tool_calls (org_id, time);
CREATE INDEX IF NOT EXISTS tool_calls_member ON tool_calls (member_id, time);
CREATE INDEX IF NOT EXISTS tool_calls_generation ON tool_calls (generation_id);

CREATE TABLE IF NOT EXISTS system_metrics (
    id UUID NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    server TEXT NOT NULL,
    cpu_percent DOUBLE PRECISION NOT NULL,
    load_1m DOUBLE PRECISION NOT NULL,
    load_5m DOUBLE PRECISION NOT NULL,
    load_15m DOUBLE PRECISION NOT NULL,
    memory_used_bytes BIGINT NOT NULL,
    memory_total_bytes BIGINT NOT NULL,
    swap_used_bytes BIGINT NOT NULL,
    disk_used_bytes BIGINT NOT NULL,
    disk_total_bytes BIGINT NOT NULL,
    disk_read_bytes BIGINT NOT NULL,
    disk_written_bytes BIGINT NOT NULL,
    network_received_bytes BIGINT NOT NULL,
    network_sent_bytes BIGINT NOT NULL,
    process_cpu_percent DOUBLE PRECISION NOT NULL,
    process_memory_bytes BIGINT NOT NULL,
    process_open_files BIGINT NOT NULL,
    process_threads BIGINT NOT NULL,
    PRIMARY KEY (id, time)
);

CREATE INDEX IF NOT EXISTS system_metrics_server ON system_metrics (server, time);
CREATE INDEX IF NOT EXISTS system_metrics_time ON system_metrics (time);
