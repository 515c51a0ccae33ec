-- More of what is written down: the org's day on audit rows, tool calls, how the machine did,
-- and sums by day that are read instead of a year of rows.

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

-- Daily sums, kept by the writer of the rows in the same transaction.

-- What members used of models, by day in the org's calendar. A generation's first row alone counts as a generation, as an
-- error and with its times; `uses` counts every row. Averages are sum and count.
CREATE TABLE IF NOT EXISTS usage_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    member_id TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    messages INTEGER NOT NULL,
    generations INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    estimated_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    first_token_ms_sum INTEGER NOT NULL,
    first_token_count INTEGER NOT NULL,
    first_token_ms_min INTEGER,
    first_token_ms_max INTEGER,
    response_ms_sum INTEGER NOT NULL,
    response_count INTEGER NOT NULL,
    response_ms_min INTEGER,
    response_ms_max INTEGER,
    PRIMARY KEY (org_id, org_day, org_month, member_id, model, endpoint)
) STRICT;

-- What tools members' messages called, by day in the org's calendar; `mcp_server` is empty for LibreChat's own tools.
CREATE TABLE IF NOT EXISTS tools_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    member_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    mcp_server TEXT NOT NULL,
    calls INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    duration_ms_sum INTEGER NOT NULL,
    duration_count INTEGER NOT NULL,
    duration_ms_min INTEGER,
    duration_ms_max INTEGER,
    PRIMARY KEY (org_id, org_day, org_month, member_id, tool, mcp_server)
) STRICT;

-- The audited requests that members made, by day in the org's calendar: rows of category API that stand for a request.
CREATE TABLE IF NOT EXISTS requests_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    member_id TEXT NOT NULL,
    api_calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    PRIMARY KEY (org_id, org_day, org_month, member_id)
) STRICT;

-- The rows that are there already.
-- Sums are made in two halves of 32 bits: SQLite's SUM fails where it leaves its integers.
INSERT INTO usage_daily
SELECT
    org_id,
    org_day,
    org_month,
    member_id,
    CASE WHEN length(CAST(model AS BLOB)) > 256 THEN substr(model, 1, 64) ELSE model END,
    CASE WHEN length(CAST(endpoint AS BLOB)) > 256 THEN substr(endpoint, 1, 64) ELSE endpoint END,
    CASE
        WHEN SUM(messages >> 32) + (SUM(messages & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(messages >> 32) * 4294967296 + SUM(messages & 4294967295)
    END,
    COUNT(CASE WHEN id = generation_id THEN 1 END),
    COUNT(*),
    COUNT(CASE WHEN id = generation_id AND status IN ('failed', 'lost') THEN 1 END),
    CASE
        WHEN SUM(input_tokens >> 32) + (SUM(input_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(input_tokens >> 32) * 4294967296 + SUM(input_tokens & 4294967295)
    END,
    CASE
        WHEN SUM(output_tokens >> 32) + (SUM(output_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(output_tokens >> 32) * 4294967296 + SUM(output_tokens & 4294967295)
    END,
    CASE
        WHEN SUM(cache_read_tokens >> 32) + (SUM(cache_read_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(cache_read_tokens >> 32) * 4294967296 + SUM(cache_read_tokens & 4294967295)
    END,
    CASE
        WHEN SUM(cache_write_tokens >> 32) + (SUM(cache_write_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(cache_write_tokens >> 32) * 4294967296 + SUM(cache_write_tokens & 4294967295)
    END,
    CASE
        WHEN SUM(total_tokens >> 32) + (SUM(total_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(total_tokens >> 32) * 4294967296 + SUM(total_tokens & 4294967295)
    END,
    CASE
        WHEN SUM(estimated_tokens >> 32) + (SUM(estimated_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(estimated_tokens >> 32) * 4294967296 + SUM(estimated_tokens & 4294967295)
    END,
    CASE
        WHEN SUM(cost_nanousd >> 32) + (SUM(cost_nanousd & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(cost_nanousd >> 32) * 4294967296 + SUM(cost_nanousd & 4294967295)
    END,
    COALESCE(CASE
        WHEN SUM(first_token_ms >> 32) + (SUM(first_token_ms & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(first_token_ms >> 32) * 4294967296 + SUM(first_token_ms & 4294967295)
    END, 0),
    COUNT(first_token_ms),
    MIN(first_token_ms),
    MAX(first_token_ms),
    COALESCE(CASE
        WHEN SUM(response_ms >> 32) + (SUM(response_ms & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(response_ms >> 32) * 4294967296 + SUM(response_ms & 4294967295)
    END, 0),
    COUNT(response_ms),
    MIN(response_ms),
    MAX(response_ms)
FROM (
    SELECT
        *,
        CASE WHEN usage_source IN ('context', 'counted') THEN total_tokens ELSE 0 END AS estimated_tokens,
        CASE WHEN id = generation_id THEN time_to_first_token_ms END AS first_token_ms,
        CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END AS response_ms
    FROM usage_events
) AS counted
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT DO NOTHING;

-- Months are the sums of their days.
CREATE VIEW IF NOT EXISTS usage_monthly AS
SELECT
    org_id, org_month, member_id, model, endpoint,
    SUM(messages) AS messages,
    SUM(generations) AS generations,
    SUM(uses) AS uses,
    SUM(errors) AS errors,
    SUM(input_tokens) AS input_tokens,
    SUM(output_tokens) AS output_tokens,
    SUM(cache_read_tokens) AS cache_read_tokens,
    SUM(cache_write_tokens) AS cache_write_tokens,
    SUM(total_tokens) AS total_tokens,
    SUM(estimated_tokens) AS estimated_tokens,
    SUM(cost_nanousd) AS cost_nanousd,
    SUM(first_token_ms_sum) AS first_token_ms_sum,
    SUM(first_token_count) AS first_token_count,
    MIN(first_token_ms_min) AS first_token_ms_min,
    MAX(first_token_ms_max) AS first_token_ms_max,
    SUM(response_ms_sum) AS response_ms_sum,
    SUM(response_count) AS response_count,
    MIN(response_ms_min) AS response_ms_min,
    MAX(response_ms_max) AS response_ms_max
FROM usage_daily
GROUP BY org_id, org_month, member_id, model, endpoint;

CREATE VIEW IF NOT EXISTS tools_monthly AS
SELECT
    org_id, org_month, member_id, tool, mcp_server,
    SUM(calls) AS calls,
    SUM(failures) AS failures,
    SUM(duration_ms_sum) AS duration_ms_sum,
    SUM(duration_count) AS duration_count,
    MIN(duration_ms_min) AS duration_ms_min,
    MAX(duration_ms_max) AS duration_ms_max
FROM tools_daily
GROUP BY org_id, org_month, member_id, tool, mcp_server;

CREATE VIEW IF NOT EXISTS requests_monthly AS
SELECT
    org_id, org_month, member_id,
    SUM(api_calls) AS api_calls,
    SUM(errors) AS errors
FROM requests_daily
GROUP BY org_id, org_month, member_id;

-- Hours of UTC. On TimescaleDB a continuous aggregate of the same name and columns takes this view's place.
CREATE VIEW IF NOT EXISTS usage_hourly AS
SELECT
    substr(time, 1, 13) || ':00:00.000000Z' AS hour,
    org_id, model, endpoint,
    SUM(messages) AS messages,
    COUNT(CASE WHEN id = generation_id THEN 1 END) AS generations,
    COUNT(*) AS uses,
    COUNT(CASE WHEN id = generation_id AND status IN ('failed', 'lost') THEN 1 END) AS errors,
    SUM(input_tokens) AS input_tokens,
    SUM(output_tokens) AS output_tokens,
    SUM(cache_read_tokens) AS cache_read_tokens,
    SUM(cache_write_tokens) AS cache_write_tokens,
    SUM(total_tokens) AS total_tokens,
    SUM(cost_nanousd) AS cost_nanousd,
    COALESCE(SUM(CASE WHEN id = generation_id THEN time_to_first_token_ms END), 0) AS first_token_ms_sum,
    COUNT(CASE WHEN id = generation_id THEN time_to_first_token_ms END) AS first_token_count,
    MIN(CASE WHEN id = generation_id THEN time_to_first_token_ms END) AS first_token_ms_min,
    MAX(CASE WHEN id = generation_id THEN time_to_first_token_ms END) AS first_token_ms_max,
    COALESCE(SUM(CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END), 0) AS response_ms_sum,
    COUNT(CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END) AS response_count,
    MIN(CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END) AS response_ms_min,
    MAX(CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END) AS response_ms_max
FROM usage_events
GROUP BY 1, 2, 3, 4;

-- For people who come from other tools.
CREATE VIEW IF NOT EXISTS chat_sessions AS
SELECT
    member_id AS user_id,
    org_id AS organization_id,
    conversation_id AS librechat_session_id,
    (
        SELECT model FROM usage_events AS latest
        WHERE latest.conversation_id = usage_events.conversation_id AND latest.org_id = usage_events.org_id
            AND latest.member_id = usage_events.member_id
        ORDER BY time DESC, id LIMIT 1
    ) AS model_used,
    SUM(messages) AS messages,
    SUM(total_tokens) AS tokens,
    MIN(time) AS first_seen,
    MAX(time) AS last_seen
FROM usage_events
WHERE conversation_id IS NOT NULL
GROUP BY org_id, member_id, conversation_id;

CREATE VIEW IF NOT EXISTS usage_metrics AS
SELECT
    org_id AS organization_id,
    member_id AS user_id,
    org_day AS date,
    SUM(total_tokens) AS tokens_used,
    TOTAL(cost_nanousd) / 1000000000 AS cost_usd,
    SUM(messages) AS message_count
FROM usage_daily
GROUP BY org_id, member_id, org_day;
