-- What dashboards ask often, and cannot read from every row where there are millions.

-- What members used of all models together, by day in the org's calendar: a third of the lines of `usage_daily` or less, for
-- questions about everyone over a long time.
CREATE TABLE IF NOT EXISTS members_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    member_id TEXT NOT NULL,
    messages BIGINT NOT NULL,
    generations BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    estimated_tokens BIGINT NOT NULL,
    cost_nanousd BIGINT NOT NULL,
    first_token_ms_sum BIGINT NOT NULL,
    first_token_count BIGINT NOT NULL,
    response_ms_sum BIGINT NOT NULL,
    response_count BIGINT NOT NULL,
    PRIMARY KEY (org_id, org_day, org_month, member_id)
) WITH (fillfactor = 80);

-- Sums of what is summed already, corrections included; by day, as they come to lie when the writer makes them.
INSERT INTO members_daily
SELECT
    org_id,
    org_day,
    org_month,
    member_id,
    LEAST(SUM(messages), 9223372036854775807)::BIGINT,
    LEAST(SUM(generations), 9223372036854775807)::BIGINT,
    LEAST(SUM(errors), 9223372036854775807)::BIGINT,
    LEAST(SUM(input_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(cache_read_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(total_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(estimated_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(cost_nanousd), 9223372036854775807)::BIGINT,
    LEAST(SUM(first_token_ms_sum), 9223372036854775807)::BIGINT,
    LEAST(SUM(first_token_count), 9223372036854775807)::BIGINT,
    LEAST(SUM(response_ms_sum), 9223372036854775807)::BIGINT,
    LEAST(SUM(response_count), 9223372036854775807)::BIGINT
FROM usage_daily
GROUP BY 1, 2, 3, 4
ORDER BY 2
ON CONFLICT DO NOTHING;

-- What was used of models by all members together, by day in the org's calendar: few lines, for questions about models over a
-- long time.
CREATE TABLE IF NOT EXISTS models_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    messages BIGINT NOT NULL,
    generations BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    estimated_tokens BIGINT NOT NULL,
    cost_nanousd BIGINT NOT NULL,
    response_ms_sum BIGINT NOT NULL,
    response_count BIGINT NOT NULL,
    PRIMARY KEY (org_id, org_day, org_month, model, endpoint)
) WITH (fillfactor = 80);

INSERT INTO models_daily
SELECT
    org_id,
    org_day,
    org_month,
    model,
    endpoint,
    LEAST(SUM(messages), 9223372036854775807)::BIGINT,
    LEAST(SUM(generations), 9223372036854775807)::BIGINT,
    LEAST(SUM(uses), 9223372036854775807)::BIGINT,
    LEAST(SUM(errors), 9223372036854775807)::BIGINT,
    LEAST(SUM(total_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(estimated_tokens), 9223372036854775807)::BIGINT,
    LEAST(SUM(cost_nanousd), 9223372036854775807)::BIGINT,
    LEAST(SUM(response_ms_sum), 9223372036854775807)::BIGINT,
    LEAST(SUM(response_count), 9223372036854775807)::BIGINT
FROM usage_daily
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT DO NOTHING;

-- When orgs work: what they used, by day in the org's calendar and by the hour of UTC that a row's time is in. Kept by the
-- writer as daily sums are, and made anew as they are.
CREATE TABLE IF NOT EXISTS usage_by_hour (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    hour TEXT NOT NULL,
    messages BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    first_token_ms_sum BIGINT NOT NULL,
    first_token_count BIGINT NOT NULL,
    PRIMARY KEY (org_id, org_day, org_month, hour)
) WITH (fillfactor = 80);

-- The rows that are there already.
INSERT INTO usage_by_hour
SELECT
    org_id,
    org_day,
    org_month,
    to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00:00.000000Z"'),
    LEAST(SUM(messages), 9223372036854775807)::BIGINT,
    LEAST(SUM(total_tokens), 9223372036854775807)::BIGINT,
    LEAST(COALESCE(SUM(first_token_ms), 0), 9223372036854775807)::BIGINT,
    COUNT(first_token_ms)
FROM (
    SELECT *, CASE WHEN id = generation_id THEN time_to_first_token_ms END AS first_token_ms
    FROM usage_events
) AS counted
GROUP BY 1, 2, 3, 4
ON CONFLICT DO NOTHING;

-- What limits refused, and what shadows would have: few of all rows, which lie far apart. Last, since audit rows cannot be written
-- from here on until this is done.
CREATE INDEX IF NOT EXISTS audit_events_refused ON audit_events (org_id, time) WHERE reference IS NOT NULL;
