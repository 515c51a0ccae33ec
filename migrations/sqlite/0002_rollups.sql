-- More of what is written down: the org's day on audit rows, tool calls, and how the machine did.

ALTER TABLE audit_events ADD COLUMN org_day TEXT;

CREATE TABLE IF NOT EXISTS tool_calls (
    id TEXT NOT NULL,
    time TEXT NOT NULL,
    generation_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    conversation_id TEXT,
    tool TEXT NOT NULL,
    mcp_server TEXT,
    outcome TEXT NOT NULL,
    duration_ms INTEGER,
    error TEXT,
    PRIMARY KEY (id, time)
) STRICT;

CREATE INDEX IF NOT EXISTS tool_calls_time ON tool_calls (time);
CREATE INDEX IF NOT EXISTS tool_calls_org ON tool_calls (org_id, time);
CREATE INDEX IF NOT EXISTS tool_calls_member ON tool_calls (member_id, time);
CREATE INDEX IF NOT EXISTS tool_calls_generation ON tool_calls (generation_id);

CREATE TABLE IF NOT EXISTS system_metrics (
    id TEXT NOT NULL,
    time TEXT NOT NULL,
    server TEXT NOT NULL,
    cpu_percent REAL NOT NULL,
    load_1m REAL NOT NULL,
    load_5m REAL NOT NULL,
    load_15m REAL NOT NULL,
    memory_used_bytes INTEGER NOT NULL,
    memory_total_bytes INTEGER NOT NULL,
    swap_used_bytes INTEGER NOT NULL,
    disk_used_bytes INTEGER NOT NULL,
    disk_total_bytes INTEGER NOT NULL,
    disk_read_bytes INTEGER NOT NULL,
    disk_written_bytes INTEGER NOT NULL,
    network_received_bytes INTEGER NOT NULL,
    network_sent_bytes INTEGER NOT NULL,
    process_cpu_percent REAL NOT NULL,
    process_memory_bytes INTEGER NOT NULL,
    process_open_files INTEGER NOT NULL,
    process_threads INTEGER NOT NULL,
    PRIMARY KEY (id, time)
) STRICT;

CREATE INDEX IF NOT EXISTS system_metrics_server ON system_metrics (server, time);
CREATE INDEX IF NOT EXISTS system_metrics_time ON system_metrics (time);
