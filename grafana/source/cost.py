"""Cost: where the money goes."""

from org import forecast, this_month
from parts import (BY_MODEL, PERSON, OF_MONTH, TO_MEMBER, TO_ORG, YELLOW, NEUTRAL, by_day, by_person, dashboard, days, indented, lines,
                   more_is_worse, most, org, prom, sql, stat, steps, table, used)  # fmt: skip

OF_RANGE, OF_MODELS = used(), used(BY_MODEL)
MODEL = "COALESCE(NULLIF(used.model, ''), '(none named)')"
USD = "SUM(used.cost_nanousd) / 1e9"


def total(expression, unit="currencyUSD"):
    return sql(f"SELECT {expression}\n{OF_RANGE}")


NUMBERS = [
    stat("Cost", "As charged, corrections included.", total(f"{USD} AS usd"), "currencyUSD"),
    stat("A message", "What a message costs on average.", total(f"{USD} / NULLIF(SUM(used.messages), 0) AS usd"), "currencyUSD", decimals=4),
    stat("An active person", "What a person who sent a message costs on average.",
         sql(f"SELECT SUM(used.usd) / NULLIF(COUNT(DISTINCT used.member_id), 0) AS usd\nFROM {by_person(f'{USD} AS usd')}"), "currencyUSD"),
    stat("This month", "What the month cost so far, in each org's calendar, whatever time is chosen.", this_month(f"{USD} AS usd"), "currencyUSD"),
    stat("Month's forecast", """What the month will come to: what it cost so far, and for each day to come what the last seven whole days
         cost on average.""", forecast("cost_nanousd", " / 1e9"), "currencyUSD"),
    stat("Charged by estimates", "Of all tokens, those that LibreChat showed no numbers for.",
         total("SUM(used.estimated_tokens) * 1.0 / NULLIF(SUM(used.total_tokens), 0) AS estimated"), "percentunit", thresholds=more_is_worse(0.1, 0.3)),
    stat("Read from caches", "Of the input, what was read from the provider's cache, which costs less.",
         total("SUM(used.cache_read_tokens) * 1.0 / NULLIF(SUM(used.input_tokens), 0) AS cached"), "percentunit"),
    stat("Without a price", "Messages to models that the price table does not know, of all orgs.",
         prom("sum(increase(tollgate_unpriced_messages_total[$__range]))", "messages", now=True), thresholds=more_is_worse(1, 100_000_000)),
]  # fmt: skip

BURN = days(
    "Month's cost so far", """The sum of this month's days up to each of them, in each org's calendar, whatever time is chosen: how fast a budget
    is used up.""",
    sql(f"""
WITH summed AS (
    SELECT used.org_day AS day, orgs.name AS series, SUM(used.cost_nanousd) / 1e9 AS usd
    {indented(OF_MONTH)}
    GROUP BY 1, 2
), largest AS (
    SELECT series FROM summed GROUP BY series ORDER BY SUM(usd) DESC LIMIT 8
), days AS (
    SELECT DISTINCT day FROM summed
)
SELECT days.day, largest.series, SUM(COALESCE(summed.usd, 0)) OVER (PARTITION BY largest.series ORDER BY days.day) AS value
FROM days
CROSS JOIN largest
LEFT JOIN summed ON summed.day = days.day AND summed.series = largest.series
ORDER BY 1, 2"""),
    "currencyUSD", 12, series=True,
)  # fmt: skip

ORGS = table(
    "By org", "Each org with what it cost, and what a message and a person of it did.",
    sql(f"""
SELECT used.org AS "Org", SUM(used.usd) AS "Cost", SUM(used.usd) / NULLIF(SUM(used.messages), 0) AS "A message", SUM(used.usd) / COUNT(*) AS "A person",
    SUM(used.tokens) AS "Tokens", used.org_id
FROM {by_person(f"{USD} AS usd, SUM(used.messages) AS messages, SUM(used.total_tokens) AS tokens")}
GROUP BY used.org, used.org_id
ORDER BY "Cost" DESC
LIMIT 200"""),
    units={"Cost": "currencyUSD", "A message": "currencyUSD", "A person": "currencyUSD", "Tokens": "short"}, hidden=["org_id"],
    links={"Org": TO_ORG}, sort="Cost",
)  # fmt: skip

MODELS = table(
    "By model", "What each model cost, what a message and a million tokens of it did, and how much of it is an estimate.",
    sql(f"""
SELECT {MODEL} AS "Model", {USD} AS "Cost", {USD} / NULLIF(SUM(used.messages), 0) AS "A message",
    {USD} * 1e6 / NULLIF(SUM(used.total_tokens), 0) AS "A million tokens", SUM(used.total_tokens) AS "Tokens",
    SUM(used.estimated_tokens) * 1.0 / NULLIF(SUM(used.total_tokens), 0) AS "Estimated"
{OF_MODELS}
GROUP BY 1
ORDER BY "Cost" DESC
LIMIT 100"""),
    units={"Cost": "currencyUSD", "A message": "currencyUSD", "A million tokens": "currencyUSD", "Tokens": "short", "Estimated": "percentunit"},
    coloured={"Estimated": more_is_worse(0.1, 0.3)}, sort="Cost",
)  # fmt: skip

PEOPLE = table(
    "By person", "The 50 people who cost most.",
    sql(f"""
SELECT {PERSON} AS "Member", used.org AS "Org", used.usd AS "Cost", used.usd / NULLIF(used.messages, 0) AS "A message", used.org_id, used.member_id
{most(by_person(f"{USD} AS usd, SUM(used.messages) AS messages"), 50, "usd")}
ORDER BY "Cost" DESC"""),
    units={"Cost": "currencyUSD", "A message": "currencyUSD"}, hidden=["org_id", "member_id"], links={"Member": TO_MEMBER, "Org": TO_ORG}, sort="Cost",
)  # fmt: skip

FREE = table(
    "Used, and cost nothing", """Models with tokens and without any cost: they are free in the price table, or it does not know them and
    `prices.unknown_model` is `free`. Empty is how it should be where nothing is free.""",
    sql(f"""
SELECT {MODEL} AS "Model", SUM(used.uses) AS "Uses", SUM(used.total_tokens) AS "Tokens"
{OF_MODELS}
GROUP BY 1
HAVING SUM(used.cost_nanousd) = 0 AND SUM(used.total_tokens) > 0
ORDER BY "Tokens" DESC
LIMIT 50"""),
    units={"Uses": "short", "Tokens": "short"}, empty="Every model has a price",
)  # fmt: skip

CORRECTIONS = table(
    "Corrections", "What `tollgate usage reprice` has added to costs or taken from them, of usage in this time.",
    sql("""
SELECT MAX(time) AS "When", org_id AS "Org", model AS "Model", reason AS "Why", price_version AS "Prices", COUNT(*) AS "Rows",
    SUM(cost_difference_nanousd) / 1e9 AS "Difference"
FROM usage_corrections
WHERE org_id = ANY (ARRAY[${org:sqlstring}]::TEXT[]) AND $__timeFilter(usage_time)
GROUP BY org_id, model, reason, price_version
ORDER BY 1 DESC
LIMIT 100"""),
    units={"When": "dateTimeAsIso", "Rows": "short", "Difference": "currencyUSD"}, empty="Nothing was corrected",
)  # fmt: skip

DASHBOARD = dashboard(
    "cost", "Cost", "Where the money goes: by org, model, person and day; what a message costs, where prices are missing, how fast the month is used up.",
    [
        ("In this time", NUMBERS),
        ("By day", [
            days("Cost by org", "By the day in each org's own calendar.", by_day(USD, "orgs.name"), "currencyUSD", series=True),
            days("Cost by model", "By the day in each org's own calendar.", by_day(USD, MODEL, BY_MODEL), "currencyUSD", series=True),
            days("Cost of a message", "On average, by the day in each org's own calendar.",
                 by_day(f"{USD} / NULLIF(SUM(used.messages), 0)"), "currencyUSD", decimals=4),
            BURN,
        ]),
        ("By what and whom", [ORGS, MODELS, PEOPLE,
            lines("Use of cost caps", "What orgs have used of their own caps on cost, in their day or month.",
                  prom('max by (org, window) (tollgate_limit_used_ratio{resource="cost", org=~"$org"})', "{{org}} a {{window}}"), "percentunit",
                  thresholds=more_is_worse(0.8, 1), empty="No org has a cap on cost"),
        ]),
        ("Gaps", [FREE, CORRECTIONS,
            lines("Messages without a price", "To models that the price table does not know, of all orgs. They are charged as `prices.unknown_model` says.",
                  prom("60 * sum(rate(tollgate_unpriced_messages_total[$__rate_interval]))", "a minute"), "short",
                  thresholds=steps((NEUTRAL, None), (YELLOW, 0.01))),
            lines("Cost a minute", "As metrics count it: at once, without corrections.",
                  prom("60 * sum by (model) (rate(tollgate_cost_usd_total[$__rate_interval]))", "{{model}}"), "currencyUSD", stacked=True),
        ]),
    ],
    [org()],
    for_orgs=True,
)  # fmt: skip
