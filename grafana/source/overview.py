"""Overview: the whole place on one page, for whoever runs it."""

from parts import (GREEN, PERSON, RED, TO_MEMBER, TO_ORG, bars, by_day, by_person, dashboard, days, lines, more_is_worse, most, prom, sql,
                   stat, steps, table, to, used)  # fmt: skip

# Refusals have a reference, which has an index; actions have none. What LibreChat itself refuses has none.
REFUSED = "reference IS NOT NULL AND action = 'chat.refused' AND error IS DISTINCT FROM 'shadow'"


def total(expression):
    return sql(f"SELECT {expression}\n{used(everyone=True)}")


NUMBERS = [
    stat("Active orgs", "Orgs of which somebody sent a message.", total("COUNT(DISTINCT used.org_id) FILTER (WHERE used.messages > 0) AS orgs")),
    stat("Active people", "People who sent a message. Who belongs to two orgs counts once.",
         total("COUNT(DISTINCT used.member_id) FILTER (WHERE used.messages > 0) AS people"), links=[to("tollgate-patterns", "When they are active")]),
    stat("Messages", "Accepted chat messages.", total("SUM(used.messages) AS messages")),
    stat("Tokens", "Input with what was cached, and output with reasoning, as charged.", total("SUM(used.total_tokens) AS tokens")),
    stat("Cost", "As charged, corrections included.", total("SUM(used.cost_nanousd) / 1e9 AS usd"), "currencyUSD",
         links=[to("tollgate-cost", "Where it goes")]),
    stat("Refusals", "Chats that a limit or a rule refused. Shadow limits refuse nobody.",
         sql(f"SELECT COALESCE(SUM(count), 0) AS refusals\nFROM audit_events\nWHERE {REFUSED} AND $__timeFilter(time)"),
         thresholds=more_is_worse(1, 100_000_000), links=[to("tollgate-limits", "Which limits")]),
    stat("Failed answers", "Of all answers, those that failed or were lost.",
         total("SUM(used.errors) * 1.0 / NULLIF(SUM(used.generations), 0) AS failed"), "percentunit", thresholds=more_is_worse(0.02, 0.1)),
    stat("First token", "How long people wait for the first word, on average.",
         total("SUM(used.first_token_ms_sum) * 1.0 / NULLIF(SUM(used.first_token_count), 0) AS ms"), "ms", thresholds=more_is_worse(5000, 15000)),
]  # fmt: skip

OF_AN_ORG = """SUM(used.messages) AS messages, SUM(used.total_tokens) AS tokens, SUM(used.cost_nanousd) AS cost, SUM(used.errors) AS errors,
    SUM(used.generations) AS generations, SUM(used.first_token_ms_sum) AS first_token_ms, SUM(used.first_token_count) AS first_tokens"""

ORGS = table(
    "Orgs", "Each org with what it used. A click on its name opens it.",
    sql(f"""
WITH refusals AS (
    SELECT org_id, SUM(count) AS refusals
    FROM audit_events
    WHERE {REFUSED} AND $__timeFilter(time)
    GROUP BY 1
)
SELECT used.org AS "Org", COUNT(*) AS "People", SUM(used.messages) AS "Messages", SUM(used.tokens) AS "Tokens", SUM(used.cost) / 1e9 AS "Cost",
    COALESCE(MAX(refusals.refusals), 0) AS "Refusals", SUM(used.errors) * 1.0 / NULLIF(SUM(used.generations), 0) AS "Failed",
    SUM(used.first_token_ms) * 1.0 / NULLIF(SUM(used.first_tokens), 0) AS "First token", used.org_id
FROM {by_person(OF_AN_ORG, everyone=True)}
LEFT JOIN refusals ON refusals.org_id = used.org_id
GROUP BY used.org, used.org_id
ORDER BY "Cost" DESC
LIMIT 200"""),
    units={"Messages": "short", "Tokens": "short", "Cost": "currencyUSD", "Failed": "percentunit", "First token": "ms"},
    hidden=["org_id"], links={"Org": TO_ORG}, coloured={"Failed": more_is_worse(0.02, 0.1)}, width=24, height=9, sort="Cost",
)  # fmt: skip

OF_A_PERSON = "SUM(used.messages) AS messages, SUM(used.total_tokens) AS tokens, SUM(used.cost_nanousd) / 1e9 AS usd"

PEOPLE = table(
    "People who used most", "The 20 people with the most tokens, of all orgs. A click on a name opens the person.",
    sql(f"""
SELECT {PERSON} AS "Member", used.org AS "Org", used.messages AS "Messages", used.tokens AS "Tokens", used.usd AS "Cost", used.org_id, used.member_id
{most(by_person(OF_A_PERSON, everyone=True), 20, "tokens")}
ORDER BY "Tokens" DESC"""),
    units={"Messages": "short", "Tokens": "short", "Cost": "currencyUSD"}, hidden=["org_id", "member_id"],
    links={"Member": TO_MEMBER, "Org": TO_ORG}, sort="Tokens",
)  # fmt: skip

LATENCY = [
    ("histogram_quantile(0.5, sum by (le) (rate({}_bucket[$__rate_interval])))", "half"),
    ("histogram_quantile(0.95, sum by (le) (rate({}_bucket[$__rate_interval])))", "95 %"),
    ("histogram_quantile(0.99, sum by (le) (rate({}_bucket[$__rate_interval])))", "99 %"),
]


def quantiles(metric):
    return [prom(expr.replace("{}", metric), legend) for expr, legend in LATENCY]


DASHBOARD = dashboard(
    "overview", "Overview", "The whole place on one page: who uses it, what it costs, what is refused, how it does.",
    [
        ("In this time", NUMBERS),
        ("By day", [
            days("Messages by org", "By the day in each org's own calendar; the eight largest orgs, and the others together.",
                 by_day("SUM(used.messages)", "orgs.name", everyone=True), "short", 8, series=True),
            days("Cost by org", "By the day in each org's own calendar.", by_day("SUM(used.cost_nanousd) / 1e9", "orgs.name", everyone=True),
                 "currencyUSD", 8, series=True),
            days("Active people", "People who sent a message, by the day in their org's calendar.",
                 by_day("COUNT(DISTINCT used.member_id)", everyone=True), "short", 8),
        ]),
        ("Who", [ORGS, PEOPLE,
            bars("Orgs nearest to a cap", "The ten orgs that have used most of one of their own caps. Caps in shadow mode are not shown.",
                 prom("topk(10, max by (org) (tollgate_limit_used_ratio))", "{{org}}", now=True), "percentunit", 6, thresholds=more_is_worse(0.8, 1), max=1,
                 empty="No org has a cap", links=[to("tollgate-limits", "What limits refuse")]),
            table("Alerts that fire", "What Prometheus has told Alertmanager. Empty is how it should be; docs/runbooks.md says what to do.",
                  prom('sum by (alertname, severity, about, instance) (ALERTS{alertstate="firing"})', now=True, table=True),
                  hidden=["Time", "Value"], empty="Nothing fires", width=6),
        ]),
        ("Now", [
            lines("Messages a minute", "Charged messages, by org; those beyond the labels that metrics may have are `other`.",
                  prom("60 * sum by (org) (rate(tollgate_messages_total[$__rate_interval]))", "{{org}}"), "short", 8, stacked=True),
            lines("Tokens a second", "Charged tokens, by kind.",
                  prom("sum by (kind) (rate(tollgate_tokens_total[$__rate_interval]))", "{{kind}}"), "short", 8, stacked=True),
            lines("Decisions on chats a minute", "What was decided before anything was forwarded. Shadow refusals let pass.",
                  prom("60 * sum by (decision) (rate(tollgate_decisions_total[$__rate_interval]))", "{{decision}}"), "short", 8),
            lines("First token", "How long people wait for the first word.", quantiles("tollgate_time_to_first_token_seconds"), "s", 8),
            lines("Added latency", "What Tollgate adds to a request, LibreChat's own time aside. 25 ms are the objective for 99 %.",
                  quantiles("tollgate_added_latency_seconds"), "s", 8, thresholds=steps((GREEN, None), (RED, 0.025))),
            lines("Server errors", "The share of requests that were answered with a server error. 0.1 % is the objective for a month.",
                  prom("job:tollgate_request_errors:ratio_rate5m or vector(0)", "of 5 minutes"), "percentunit", 8,
                  thresholds=steps((GREEN, None), (RED, 0.001)), links=[to("tollgate-gateway", "By route")]),
        ]),
    ],
    since="now-7d",
)  # fmt: skip
