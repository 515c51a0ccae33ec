-- The view usage_hourly of migrations/postgres/0002_rollups.sql as a continuous aggregate.
CREATE MATERIALIZED VIEW usage_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    time_bucket('1 hour', time) AS hour,
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
GROUP BY 1, 2, 3, 4
WITH NO DATA;
