"""Org: one org, for those who run the place and for its own admins."""

from parts import (BY_MODEL, GREEN, PERSON, RED, OF_MONTH, TO_MEMBER, YELLOW, bars, by_day, by_person, dashboard, days, lines, more_is_worse, most,
                   org, prom, sql, stat, steps, table, to, used)  # fmt: skip

OF_RANGE = used()


def total(expression):
    return sql(f"SELECT {expression}\n{OF_RANGE}")


# What the month will come to: what it cost so far, and for each day to come what the last seven whole days cost on average. In
# an org's first week there are none, and this month's own average stands in.
FORECAST = """
WITH calendar AS MATERIALIZED (
    SELECT id, today, to_char(today, 'YYYY-MM') AS month, today::TEXT AS day, (today - 7)::TEXT AS week_ago,
        (date_trunc('month', today)::DATE - 7)::TEXT AS since, (date_trunc('month', today) + INTERVAL '1 month')::DATE AS ends
    FROM (SELECT id, (now() AT TIME ZONE time_zone)::DATE AS today FROM orgs WHERE id = ANY (ARRAY[${org:sqlstring}]::TEXT[])) AS local
), summed AS (
    SELECT calendar.id, calendar.today, calendar.ends, SUM(used.WHAT) FILTER (WHERE used.org_month = calendar.month) AS so_far,
        SUM(used.WHAT) FILTER (WHERE used.org_day < calendar.day AND used.org_day >= calendar.week_ago) / 7.0 AS a_day
    FROM calendar
    JOIN members_daily AS used ON used.org_id = calendar.id AND used.org_day >= calendar.since
    GROUP BY 1, 2, 3
)
SELECT SUM(so_far + (ends - today - 1) * COALESCE(a_day, so_far / EXTRACT(DAY FROM today))) SCALE AS forecast
FROM summed"""


def forecast(what, scale=""):
    return sql(FORECAST.replace("WHAT", what).replace(" SCALE", scale))


def this_month(expression):
    return sql(f"SELECT {expression}\n{OF_MONTH}")


NUMBERS = [
    stat("Active people", "Members who sent a message.", total("COUNT(DISTINCT used.member_id) FILTER (WHERE used.messages > 0) AS people")),
    stat("Messages", "Accepted chat messages.", total("SUM(used.messages) AS messages")),
    stat("Tokens", "Input and output, as charged.", total("SUM(used.total_tokens) AS tokens")),
    stat("Cost", "As charged, corrections included.", total("SUM(used.cost_nanousd) / 1e9 AS usd"), "currencyUSD", links=[to("tollgate-cost", "Where it goes")]),
    stat("Refusals", "Chats that a limit or a rule refused.",
         sql("""
SELECT COALESCE(SUM(count), 0) AS refusals
FROM audit_events
WHERE org_id = ANY (ARRAY[${org:sqlstring}]::TEXT[]) AND reference IS NOT NULL AND action = 'chat.refused'
    AND error IS DISTINCT FROM 'shadow' AND $__timeFilter(time)"""),
         thresholds=more_is_worse(1, 100_000_000), links=[to("tollgate-limits", "Which limits")]),
    stat("Failed answers", "Of all answers, those that failed or were lost.",
         total("SUM(used.errors) * 1.0 / NULLIF(SUM(used.generations), 0) AS failed"), "percentunit", thresholds=more_is_worse(0.02, 0.1)),
    stat("This month", "What the month cost so far, in the org's calendar, whatever time is chosen.",
         this_month("SUM(used.cost_nanousd) / 1e9 AS usd"), "currencyUSD"),
    stat("Month's forecast", """What the month will come to: what it cost so far, and for each day to come what the last seven whole days
         cost on average.""", forecast("cost_nanousd", " / 1e9"), "currencyUSD"),
]  # fmt: skip

CAPS = steps((GREEN, None), (YELLOW, 0.8), (RED, 1))

# The limits that were in the way, as the newest refusal by each tells.
LIMITS = table(
    "Limits that were in the way", """Each limit that refused somebody, enforced or shadow, with what was used of it when it last did.
    `tollgate limits explain` shows every limit of a member.""",
    sql("""
SELECT DISTINCT ON (1, 2, 3, 4)
    detail->'refused_by'->>'scope' AS "Whose", detail->'refused_by'->>'resource' AS "Of", detail->'refused_by'->>'window' AS "Per",
    CASE WHEN error = 'shadow' THEN 'shadow' ELSE 'enforced' END AS "Mode",
    LEAST(((detail->'refused_by'->>'used')::NUMERIC + (detail->'refused_by'->>'held')::NUMERIC)
        / NULLIF((detail->'refused_by'->>'limit')::NUMERIC, 0), 1) AS "In use",
    detail->'refused_by'->>'rule' AS "Rule", time AS "Last refusal"
FROM audit_events
WHERE org_id = ANY (ARRAY[${org:sqlstring}]::TEXT[]) AND reference IS NOT NULL AND detail ? 'refused_by' AND $__timeFilter(time)
ORDER BY 1, 2, 3, 4, time DESC"""),
    units={"In use": "percentunit", "Last refusal": "dateTimeAsIso"}, coloured={"In use": more_is_worse(0.8, 1)}, empty="Nobody was refused",
)  # fmt: skip

OF_A_MEMBER = """SUM(used.messages) AS messages, SUM(used.total_tokens) AS tokens, SUM(used.cost_nanousd) / 1e9 AS usd,
    SUM(used.errors) AS failed, MAX(used.org_day) AS last_day"""

MEMBERS = table(
    "By member", "The 50 members who used most. A click on a name opens the person.",
    sql(f"""
SELECT {PERSON} AS "Member", used.messages AS "Messages", used.tokens AS "Tokens", used.usd AS "Cost", used.failed AS "Failed", used.last_day AS "Last day",
    used.org_id, used.member_id
{most(by_person(OF_A_MEMBER), 50, "tokens")}
ORDER BY "Tokens" DESC"""),
    units={"Messages": "short", "Tokens": "short", "Cost": "currencyUSD", "Failed": "short"}, hidden=["org_id", "member_id"],
    links={"Member": TO_MEMBER}, height=10, sort="Tokens",
)  # fmt: skip


def by(column, title, about, **more):
    named = f"COALESCE(NULLIF(used.{column}, ''), '(none named)')"
    return table(
        title, about,
        sql(f"""
SELECT {named} AS "{column.capitalize()}", SUM(used.messages) AS "Messages", SUM(used.total_tokens) AS "Tokens",
    SUM(used.cost_nanousd) / 1e9 AS "Cost", SUM(used.response_ms_sum) * 1.0 / NULLIF(SUM(used.response_count), 0) AS "Answer takes",
    SUM(used.errors) * 1.0 / NULLIF(SUM(used.generations), 0) AS "Failed"
{used(BY_MODEL)}
GROUP BY 1
ORDER BY "Tokens" DESC
LIMIT 50"""),
        units={"Messages": "short", "Tokens": "short", "Cost": "currencyUSD", "Answer takes": "ms", "Failed": "percentunit"},
        coloured={"Failed": more_is_worse(0.02, 0.1)}, sort="Tokens", **more,
    )  # fmt: skip


MODEL = "COALESCE(NULLIF(used.model, ''), '(none named)')"

DASHBOARD = dashboard(
    "org", "Org", "One org: its use, its people, its models, its limits, and what the month will come to.",
    [
        ("In this time", NUMBERS),
        ("Against the limits", [
            bars("Use of each cap", "What the org has used of its own caps in their day or month. Caps in shadow mode are not shown.",
                 prom('max by (resource, window) (tollgate_limit_used_ratio{org="$org"})', "{{resource}} a {{window}}", now=True), "percentunit", 6,
                 thresholds=CAPS, max=1, empty="The org has no caps"),
            lines("Use of each cap over time", "It falls to zero when a day or month of the org's calendar begins.",
                  prom('max by (resource, window) (tollgate_limit_used_ratio{org="$org"})', "{{resource}} a {{window}}"), "percentunit", 6,
                  thresholds=CAPS, empty="The org has no caps"),
            LIMITS,
        ]),
        ("By day", [
            days("Messages", "By the day in the org's own calendar.", by_day("SUM(used.messages)"), "short", 8),
            days("Tokens by model", "By the day in the org's own calendar; the eight models used most, and the others together.",
                 by_day("SUM(used.total_tokens)", MODEL, BY_MODEL), "short", 8, series=True),
            days("Cost by model", "By the day in the org's own calendar.", by_day("SUM(used.cost_nanousd) / 1e9", MODEL, BY_MODEL), "currencyUSD", 8, series=True),
            days("Active people", "Members who sent a message, by the day in the org's own calendar.", by_day("COUNT(DISTINCT used.member_id)"), "short", 8),
            days("How long answers take", "Complete answers on average, by the day in the org's own calendar.",
                 by_day("SUM(used.response_ms_sum) * 1.0 / NULLIF(SUM(used.response_count), 0)"), "ms", 8),
            days("Cost by month", "The last twelve months of the org's calendar, whatever time is chosen.",
                 sql(f"""
SELECT used.org_month AS month, SUM(used.cost_nanousd) / 1e9 AS value
FROM members_daily AS used
WHERE used.org_id = ${{org:sqlstring}} AND used.org_day >= (
    SELECT to_char(now() AT TIME ZONE time_zone - INTERVAL '11 months', 'YYYY-MM') FROM orgs WHERE id = ${{org:sqlstring}})
GROUP BY 1
ORDER BY 1"""), "currencyUSD", 8),
        ]),
        ("Who and what", [
            MEMBERS,
            by("model", "By model", "What each model was used for: the answer's own time, and how often it failed.", height=10),
            by("endpoint", "By endpoint", "LibreChat's endpoints.", width=24, height=6),
        ]),
    ],
    [org(several=False)],
    for_orgs=True,
)  # fmt: skip
