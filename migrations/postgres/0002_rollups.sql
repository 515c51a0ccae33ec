-- More of what is written down: the org's day on audit rows, tool calls, how the machine did,
-- and sums by day that are read instead of a year of rows.

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

-- Daily sums, kept by the writer of the rows in the same transaction.
-- Their lines are written again and again: room on the page lets PostgreSQL do so without touching indexes.

-- What members used of models, by day in the org's calendar. A generation's first row alone counts as a generation, as an
-- error and with its times; `uses` counts every row. Averages are sum and count.
CREATE TABLE IF NOT EXISTS usage_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    member_id TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    messages BIGINT NOT NULL,
    generations BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    estimated_tokens BIGINT NOT NULL,
    cost_nanousd BIGINT NOT NULL,
    first_token_ms_sum BIGINT NOT NULL,
    first_token_count BIGINT NOT NULL,
    first_token_ms_min BIGINT,
    first_token_ms_max BIGINT,
    response_ms_sum BIGINT NOT NULL,
    response_count BIGINT NOT NULL,
    response_ms_min BIGINT,
    response_ms_max BIGINT,
    PRIMARY KEY (org_id, org_day, org_month, member_id, model, endpoint)
) WITH (fillfactor = 80);

-- What tools members' messages called, by day in the org's calendar; `mcp_server` is empty for LibreChat's own tools.
CREATE TABLE IF NOT EXISTS tools_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    member_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    mcp_server TEXT NOT NULL,
    calls BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    duration_ms_sum BIGINT NOT NULL,
    duration_count BIGINT NOT NULL,
    duration_ms_min BIGINT,
    duration_ms_max BIGINT,
    PRIMARY KEY (org_id, org_day, org_month, member_id, tool, mcp_server)
) WITH (fillfactor = 80);

-- The audited requests that members made, by day in the org's calendar: rows of category API that stand for a request.
CREATE TABLE IF NOT EXISTS requests_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    member_id TEXT NOT NULL,
    api_calls BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    PRIMARY KEY (org_id, org_day, org_month, member_id)
) WITH (fillfactor = 80);

-- The rows that are there already.
INSERT INTO usage_daily
SELECT
    org_id,
    org_day,
    org_month,
    member_id,
    CASE WHEN octet_length(model) > 256 THEN left(model, 64) ELSE model END,
    CASE WHEN octet_length(endpoint) > 256 THEN left(endpoint, 64) ELSE endpoint END,
    LEAST(SUM(messages), 9223372036854775807)::BIGINT,
    COUNT(CASE WHEN id = generation_id THEN 1 END),
    COUNT(*),
    COUNT(CASE WHEN id = generation_id AND status IN ('failed', 'lost') THEN 1 END),
    LEAST(SUM(input_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(output_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(cache_read_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(cache_write_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(total_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(estimated_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(cost_nanousd), 9223372036854775807)::BIGINT,
    LEAST(COALESCE(SUM(first_token_ms), 0), 9223372036854775807)::BIGINT,
    COUNT(first_token_ms),
    MIN(first_token_ms),
    MAX(first_token_ms),
    LEAST(COALESCE(SUM(response_ms), 0), 9223372036854775807)::BIGINT,
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

-- Months are the sums of their days. A sum of BIGINT is a NUMERIC, which has no end.
CREATE OR REPLACE VIEW usage_monthly AS
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

CREATE OR REPLACE VIEW tools_monthly AS
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

CREATE OR REPLACE VIEW requests_monthly AS
SELECT
    org_id, org_month, member_id,
    SUM(api_calls) AS api_calls,
    SUM(errors) AS errors
FROM requests_daily
GROUP BY org_id, org_month, member_id;

-- Hours of UTC. On TimescaleDB a continuous aggregate of the same name and columns takes this view's place.
CREATE OR REPLACE VIEW usage_hourly AS
SELECT
    date_trunc('hour', time, 'UTC') AS hour,
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
CREATE OR REPLACE VIEW chat_sessions AS
SELECT
    member_id AS user_id,
    org_id AS organization_id,
    conversation_id AS librechat_session_id,
    (array_agg(model ORDER BY time DESC, id))[1] AS model_used,
    SUM(messages) AS messages,
    SUM(total_tokens) AS tokens,
    MIN(time) AS first_seen,
    MAX(time) AS last_seen
FROM usage_events
WHERE conversation_id IS NOT NULL
GROUP BY org_id, member_id, conversation_id;

CREATE OR REPLACE VIEW usage_metrics AS
SELECT
    org_id AS organization_id,
    member_id AS user_id,
    org_day::DATE AS date,
    SUM(total_tokens) AS tokens_used,
    SUM(cost_nanousd) / 1000000000 AS cost_usd,
    SUM(messages) AS message_count
FROM usage_daily
GROUP BY org_id, member_id, org_day;
