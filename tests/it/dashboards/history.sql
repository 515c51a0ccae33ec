-- Rows as some weeks leave them: ROWS answers of MEMBERS members of ORGS orgs in DAYS days, with their tools, refusals and
-- failed sign-ins, and the machines of two replicas. For pictures and measurements; PostgreSQL makes them, nobody's.
SELECT setseed(0.42);

INSERT INTO orgs (id, name, domains, plan, time_zone, status, join_by, capture, legal_hold, created_at, updated_at, revision)
SELECT 'org-' || n, (ARRAY['Northwind', 'Fabrikam', 'Contoso', 'Litware', 'Tailspin'])[1 + n % 5] || CASE WHEN n < 5 THEN '' ELSE ' ' || n END, '', NULL,
    (ARRAY['Europe/Berlin', 'America/New_York', 'Asia/Seoul', 'UTC', 'Asia/Kolkata'])[1 + n % 5], 'active', 'by_domain', 'none', FALSE, now(), now(), 0
FROM generate_series(0, ORGS - 1) AS n
ON CONFLICT DO NOTHING;

INSERT INTO members (id, org_id, librechat_id, name, role, status, created_at, updated_at, revision)
SELECT gen_random_uuid(), 'org-' || n % ORGS, 'member-' || n,
    (ARRAY['Ada', 'Grace', 'Alan', 'Edsger', 'Barbara', 'Donald', 'Radia', 'Ken', 'Frances', 'Dennis', 'Margaret', 'Niklaus'])[1 + n % 12] || ' ' ||
    (ARRAY['Berg', 'Novak', 'Kim', 'Rossi', 'Okafor', 'Silva', 'Meyer'])[1 + n / 12 % 7] || CASE WHEN n < 84 THEN '' ELSE ' ' || n END,
    'user', 'active', now(), now(), 0
FROM generate_series(0, MEMBERS - 1) AS n
ON CONFLICT DO NOTHING;

-- Few members make most of it; days are busiest in the middle, and weekends quiet.
INSERT INTO usage_events (id, time, generation_id, org_id, member_id, org_day, org_month, endpoint, model, conversation_id, messages, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, total_tokens, cost_nanousd, price_version, usage_source, estimate_tokens, status,
    time_to_first_token_ms, duration_ms, request_id)
SELECT id, time, id, org_id, 'member-' || member, to_char(time AT TIME ZONE zone, 'YYYY-MM-DD'), to_char(time AT TIME ZONE zone, 'YYYY-MM'),
    (ARRAY['openAI', 'anthropic', 'google', 'openAI', 'anthropic'])[model], (ARRAY['gpt-4o', 'claude-sonnet-4-5', 'gemini-2.5-pro', 'gpt-4o-mini', 'claude-haiku-4-5'])[model],
    'conversation-' || member || '-' || n % 40, 1, input, output, input / 3, 0, input + output,
    input * (ARRAY[2500, 3000, 1250, 150, 1000])[model]::BIGINT + output * (ARRAY[10000, 15000, 10000, 600, 5000])[model]::BIGINT, '2026-11',
    CASE WHEN chance < 0.07 THEN 'counted' ELSE 'frames' END, 1500, CASE WHEN chance > 0.98 THEN 'failed' WHEN chance > 0.96 THEN 'aborted' ELSE 'completed' END,
    300 + (1500 * chance)::BIGINT, 2000 + (9000 * chance * chance)::BIGINT, 'request-' || n
FROM (
    SELECT n, member, 'org-' || member % ORGS AS org_id, zone, gen_random_uuid() AS id, random() AS chance,
        1 + floor(5 * random() * random())::INTEGER AS model, 300 + (6000 * random() * random())::BIGINT AS input, 40 + (900 * random() * random())::BIGINT AS output,
        (date_trunc('day', now() AT TIME ZONE zone) - floor(DAYS * random()) * INTERVAL '1 day'
            + (4 + 16 * (random() + random() + random()) / 3) * INTERVAL '1 hour') AT TIME ZONE zone AS time
    FROM (
        SELECT n, floor(MEMBERS * random() * random())::INTEGER AS member FROM generate_series(1, ROWS) AS n
    ) AS chosen
    JOIN LATERAL (SELECT (ARRAY['Europe/Berlin', 'America/New_York', 'Asia/Seoul', 'UTC', 'Asia/Kolkata'])[1 + member % ORGS % 5] AS zone) AS zones ON TRUE
) AS made
WHERE time < now() AND (EXTRACT(ISODOW FROM time AT TIME ZONE zone) < 6 OR chance < 0.2);

INSERT INTO tool_calls (id, time, generation_id, org_id, member_id, org_day, org_month, conversation_id, tool, mcp_server, outcome, duration_ms, error)
SELECT gen_random_uuid(), time, generation_id, org_id, member_id, org_day, org_month, conversation_id,
    (ARRAY['web_search', 'find_document', 'create_issue', 'query', 'send_mail'])[which], (ARRAY[NULL, 'library', 'tracker', 'warehouse', 'mail'])[which],
    CASE WHEN chance < 0.06 THEN 'failure' WHEN chance < 0.07 THEN 'unknown' ELSE 'success' END, 120 + (2000 * chance)::BIGINT,
    CASE WHEN chance < 0.06 THEN 'Error: it did not answer in time' END
FROM (SELECT *, random() AS chance, 1 + floor(5 * random() * random())::INTEGER AS which FROM usage_events WHERE random() < 0.3) AS chosen;

INSERT INTO tools_daily
SELECT org_id, org_day, org_month, member_id, tool, COALESCE(mcp_server, ''), COUNT(*), COUNT(*) FILTER (WHERE outcome = 'failure'), SUM(duration_ms),
    COUNT(duration_ms), MIN(duration_ms), MAX(duration_ms)
FROM tool_calls
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT DO NOTHING;

-- What was let in, what a limit refused, and what a shadow would have.
INSERT INTO audit_events (id, time, category, severity, org_id, org_day, actor_id, action, outcome, status, error, model, count, reference, detail)
SELECT gen_random_uuid(), time, 'API', CASE WHEN refused THEN 'WARNING' ELSE 'INFO' END, org_id, org_day, member_id,
    CASE WHEN refused THEN 'chat.refused' ELSE 'chat.started' END, CASE WHEN refused THEN 'failure' ELSE 'success' END, CASE WHEN refused THEN 429 ELSE 200 END,
    CASE WHEN refused THEN 'limit' WHEN shadow THEN 'shadow' END, model, 1, CASE WHEN refused OR shadow THEN 'REF' || substr(id::TEXT, 1, 8) END,
    CASE WHEN refused OR shadow THEN jsonb_build_object('refused_by', jsonb_build_object('scope', CASE WHEN chance < 0.01 THEN 'member' ELSE 'org' END,
        'resource', (ARRAY['tokens', 'messages', 'cost'])[1 + floor(3 * random())::INTEGER], 'window', 'day', 'limit', 200000, 'used', 198400, 'held', 1400,
        'needs', 2200, 'resets_at', time + INTERVAL '9 hours', 'rule', 'limits[0]')) END
FROM (SELECT *, random() AS chance FROM usage_events) AS chosen
CROSS JOIN LATERAL (SELECT chance < 0.02 AS refused, chance > 0.975 AS shadow) AS fate;

INSERT INTO audit_events (id, time, category, severity, action, outcome, status, error, address, resource_id, count)
SELECT gen_random_uuid(), now() - DAYS * random() * INTERVAL '1 day', 'SECURITY', 'WARNING', CASE WHEN n % 3 = 0 THEN 'auth.login_failed' ELSE 'auth.token_refused' END,
    'failure', 401, CASE WHEN n % 3 = 0 THEN 'wrong_password' ELSE 'unauthorized' END, '192.0.2.' || n % 40, 'name:' || md5((n % 25)::TEXT), 1 + n % 4
FROM generate_series(1, ROWS / 100) AS n;

INSERT INTO system_metrics
SELECT gen_random_uuid(), now() - n * SYSTEM_SECONDS * INTERVAL '1 second', 'tollgate-' || server, 25 + 12 * sin(n / 40.0 + server) + 6 * random(),
    0.6 + 0.3 * sin(n / 40.0 + server) + 0.2 * random(), 0.6, 0.5, (3.1 + 0.3 * sin(n / 90.0)) * 1073741824, 8::BIGINT << 30, 0, (31 + server) * 1073741824::BIGINT,
    100::BIGINT << 30, 40960 * random(), 4e6 * random(), 3e6 * random(), 5e6 * random(), 9 + 4 * sin(n / 40.0) + 2 * random(), (118 + 8 * random()) * 1048576, 240, 14
FROM generate_series(0, SYSTEM_ROWS) AS n, generate_series(1, 2) AS server;
