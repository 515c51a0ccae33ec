-- What dashboards ask often, and cannot read from every row where there are millions.

-- What members used of all models together, by day in the org's calendar: a third of the lines of `usage_daily` or less, for
-- questions about everyone over a long time.
CREATE TABLE IF NOT EXISTS members_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    member_id TEXT NOT NULL,
    messages INTEGER NOT NULL,
    generations INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    estimated_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    first_token_ms_sum INTEGER NOT NULL,
    first_token_count INTEGER NOT NULL,
    response_ms_sum INTEGER NOT NULL,
    response_count INTEGER NOT NULL,
    PRIMARY KEY (org_id, org_day, org_month, member_id)
) STRICT;

-- Sums of what is summed already, corrections included; in halves, as in 0002.
INSERT INTO members_daily
SELECT
    org_id,
    org_day,
    org_month,
    member_id,
    CASE
        WHEN SUM(messages >> 32) + (SUM(messages & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(messages >> 32) * 4294967296 + SUM(messages & 4294967295)
    END,
    CASE
        WHEN SUM(generations >> 32) + (SUM(generations & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(generations >> 32) * 4294967296 + SUM(generations & 4294967295)
    END,
    CASE
        WHEN SUM(errors >> 32) + (SUM(errors & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(errors >> 32) * 4294967296 + SUM(errors & 4294967295)
    END,
    CASE
        WHEN SUM(input_tokens >> 32) + (SUM(input_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(input_tokens >> 32) * 4294967296 + SUM(input_tokens & 4294967295)
    END,
    CASE
        WHEN SUM(cache_read_tokens >> 32) + (SUM(cache_read_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(cache_read_tokens >> 32) * 4294967296 + SUM(cache_read_tokens & 4294967295)
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
    CASE
        WHEN SUM(first_token_ms_sum >> 32) + (SUM(first_token_ms_sum & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(first_token_ms_sum >> 32) * 4294967296 + SUM(first_token_ms_sum & 4294967295)
    END,
    CASE
        WHEN SUM(first_token_count >> 32) + (SUM(first_token_count & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(first_token_count >> 32) * 4294967296 + SUM(first_token_count & 4294967295)
    END,
    CASE
        WHEN SUM(response_ms_sum >> 32) + (SUM(response_ms_sum & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(response_ms_sum >> 32) * 4294967296 + SUM(response_ms_sum & 4294967295)
    END,
    CASE
        WHEN SUM(response_count >> 32) + (SUM(response_count & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(response_count >> 32) * 4294967296 + SUM(response_count & 4294967295)
    END
FROM usage_daily
WHERE TRUE
GROUP BY 1, 2, 3, 4
ON CONFLICT DO NOTHING;

-- What was used of models by all members together, by day in the org's calendar: few lines, for questions about models over a
-- long time.
CREATE TABLE IF NOT EXISTS models_daily (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    messages INTEGER NOT NULL,
    generations INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    estimated_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    response_ms_sum INTEGER NOT NULL,
    response_count INTEGER NOT NULL,
    PRIMARY KEY (org_id, org_day, org_month, model, endpoint)
) STRICT;

INSERT INTO models_daily
SELECT
    org_id,
    org_day,
    org_month,
    model,
    endpoint,
    CASE
        WHEN SUM(messages >> 32) + (SUM(messages & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(messages >> 32) * 4294967296 + SUM(messages & 4294967295)
    END,
    CASE
        WHEN SUM(generations >> 32) + (SUM(generations & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(generations >> 32) * 4294967296 + SUM(generations & 4294967295)
    END,
    CASE
        WHEN SUM(uses >> 32) + (SUM(uses & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(uses >> 32) * 4294967296 + SUM(uses & 4294967295)
    END,
    CASE
        WHEN SUM(errors >> 32) + (SUM(errors & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(errors >> 32) * 4294967296 + SUM(errors & 4294967295)
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
    CASE
        WHEN SUM(response_ms_sum >> 32) + (SUM(response_ms_sum & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(response_ms_sum >> 32) * 4294967296 + SUM(response_ms_sum & 4294967295)
    END,
    CASE
        WHEN SUM(response_count >> 32) + (SUM(response_count & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(response_count >> 32) * 4294967296 + SUM(response_count & 4294967295)
    END
FROM usage_daily
WHERE TRUE
GROUP BY 1, 2, 3, 4, 5
ON CONFLICT DO NOTHING;

-- When orgs work: what they used, by day in the org's calendar and by the hour of UTC that a row's time is in. Kept by the
-- writer as daily sums are, and made anew as they are.
CREATE TABLE IF NOT EXISTS usage_by_hour (
    org_id TEXT NOT NULL,
    org_day TEXT NOT NULL,
    org_month TEXT NOT NULL,
    hour TEXT NOT NULL,
    messages INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    first_token_ms_sum INTEGER NOT NULL,
    first_token_count INTEGER NOT NULL,
    PRIMARY KEY (org_id, org_day, org_month, hour)
) STRICT;

-- The rows that are there already. Sums in halves, as in 0002.
INSERT INTO usage_by_hour
SELECT
    org_id,
    org_day,
    org_month,
    substr(time, 1, 13) || ':00:00.000000Z',
    CASE
        WHEN SUM(messages >> 32) + (SUM(messages & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(messages >> 32) * 4294967296 + SUM(messages & 4294967295)
    END,
    CASE
        WHEN SUM(total_tokens >> 32) + (SUM(total_tokens & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE SUM(total_tokens >> 32) * 4294967296 + SUM(total_tokens & 4294967295)
    END,
    CASE
        WHEN SUM(first_token_ms >> 32) + (SUM(first_token_ms & 4294967295) >> 32) > 2147483647 THEN 9223372036854775807
        ELSE COALESCE(SUM(first_token_ms >> 32) * 4294967296 + SUM(first_token_ms & 4294967295), 0)
    END,
    COUNT(first_token_ms)
FROM (
    SELECT *, CASE WHEN id = generation_id THEN time_to_first_token_ms END AS first_token_ms
    FROM usage_events
)
WHERE TRUE
GROUP BY 1, 2, 3, 4
ON CONFLICT DO NOTHING;

-- What limits refused, and what shadows would have: few of all rows, which lie far apart.
CREATE INDEX IF NOT EXISTS audit_events_refused ON audit_events (org_id, time) WHERE reference IS NOT NULL;
