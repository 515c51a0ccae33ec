"""Member: one person."""

from parts import BY_BOTH, DATABASE, by_day, dashboard, days, more_is_worse, org, sql, stat, table, tidy, used, variable

MEMBERS = tidy("""
SELECT DISTINCT used.member_id AS __value, COALESCE(NULLIF(members.name, ''), members.email, used.member_id) AS __text
FROM members_daily AS used
LEFT JOIN members ON members.librechat_id = used.member_id
WHERE used.org_id = ${org:sqlstring}
ORDER BY 2
LIMIT 5000""")

HERS = "WHERE used.member_id = ${member:sqlstring}"
OF_RANGE = used(also=HERS)
OF_TOOLS = used("tools_daily", also=HERS)


def total(expression, of=OF_RANGE):
    return sql(f"SELECT {expression}\n{of}")


def hers_by_day(value):
    return by_day(value, also=HERS)


NUMBERS = [
    stat("Messages", "Accepted chat messages.", total("SUM(used.messages) AS messages")),
    stat("Tokens", "Input and output, as charged.", total("SUM(used.total_tokens) AS tokens")),
    stat("Cost", "As charged, corrections included.", total("SUM(used.cost_nanousd) / 1e9 AS usd"), "currencyUSD"),
    stat("Share of the org", "Of the org's tokens in this time.",
         sql(f"SELECT SUM(used.total_tokens) FILTER (WHERE used.member_id = ${{member:sqlstring}}) * 1.0 / NULLIF(SUM(used.total_tokens), 0) AS share\n{used()}"),
         "percentunit"),
    stat("Tool calls", "Calls of tools that this person's messages led to.", total("SUM(used.calls) AS calls", OF_TOOLS)),
    stat("Refusals", "Chats of this person that a limit or a rule refused.",
         sql("""
SELECT COALESCE(SUM(count), 0) AS refusals
FROM audit_events
WHERE actor_id = ${member:sqlstring} AND reference IS NOT NULL AND action = 'chat.refused'
    AND error IS DISTINCT FROM 'shadow' AND $__timeFilter(time)"""), thresholds=more_is_worse(1, 100_000_000)),
    stat("Failed answers", "Of all answers, those that failed or were lost.",
         total("SUM(used.errors) * 1.0 / NULLIF(SUM(used.generations), 0) AS failed"), "percentunit", thresholds=more_is_worse(0.02, 0.1)),
    stat("Last message", "When this person last sent a message, whatever time is chosen.",
         sql("SELECT (EXTRACT(EPOCH FROM MAX(time)) * 1000)::BIGINT AS last\nFROM usage_events\nWHERE org_id = ${org:sqlstring} AND member_id = ${member:sqlstring}"),
         "dateTimeFromNow"),
]  # fmt: skip

MODEL = "COALESCE(NULLIF(used.model, ''), '(none named)')"

MODELS = table(
    "Models", "What was asked of which model.",
    sql(f"""
SELECT {MODEL} AS "Model", SUM(used.messages) AS "Messages", SUM(used.input_tokens) AS "Input", SUM(used.output_tokens) AS "Output",
    SUM(used.cost_nanousd) / 1e9 AS "Cost"
{used(BY_BOTH, also=HERS)}
GROUP BY 1
ORDER BY "Cost" DESC
LIMIT 50"""),
    units={"Messages": "short", "Input": "short", "Output": "short", "Cost": "currencyUSD"}, sort="Cost",
)  # fmt: skip

TOOLS = table(
    "Top tools", "The tools called most, with those calls that failed.",
    sql(f"""
SELECT used.tool AS "Tool", used.mcp_server AS "MCP server", SUM(used.calls) AS "Calls", SUM(used.failures) AS "Failed",
    SUM(used.failures) * 1.0 / NULLIF(SUM(used.calls), 0) AS "Share failed"
{OF_TOOLS}
GROUP BY 1, 2
ORDER BY "Calls" DESC
LIMIT 20"""),
    units={"Calls": "short", "Failed": "short", "Share failed": "percentunit"}, coloured={"Share failed": more_is_worse(0.05, 0.25)}, sort="Calls",
)  # fmt: skip

HISTORY = table(
    "Latest messages", "The latest 100 answers, with what each used. What was said is not kept.",
    sql("""
SELECT time AS "Time", model AS "Model", endpoint AS "Endpoint", status AS "Ended", input_tokens AS "Input", output_tokens AS "Output",
    cost_nanousd / 1e9 AS "Cost", time_to_first_token_ms AS "First token", duration_ms AS "Took", usage_source AS "Told by",
    conversation_id AS "Conversation"
FROM usage_events
WHERE org_id = ${org:sqlstring} AND member_id = ${member:sqlstring} AND $__timeFilter(time)
ORDER BY time DESC
LIMIT 100"""),
    units={"Time": "dateTimeAsIso", "Input": "short", "Output": "short", "Cost": "currencyUSD", "First token": "ms", "Took": "ms"}, width=24, height=10,
)  # fmt: skip

CONVERSATIONS = table(
    "Conversations", "The latest 50 conversations of this time, with what they used in it.",
    sql("""
SELECT conversation_id AS "Conversation", (array_agg(model ORDER BY time DESC))[1] AS "Model", SUM(messages) AS "Messages",
    SUM(total_tokens) AS "Tokens", SUM(cost_nanousd) / 1e9 AS "Cost", MIN(time) AS "First", MAX(time) AS "Last"
FROM usage_events
WHERE org_id = ${org:sqlstring} AND member_id = ${member:sqlstring} AND conversation_id IS NOT NULL AND $__timeFilter(time)
GROUP BY 1
ORDER BY MAX(time) DESC
LIMIT 50"""),
    units={"Messages": "short", "Tokens": "short", "Cost": "currencyUSD", "First": "dateTimeAsIso", "Last": "dateTimeAsIso"},
)  # fmt: skip

REFUSED = table(
    "What was refused", "The latest 50 refusals and failures of this person. `tollgate explain` tells the whole decision behind a reference.",
    sql("""
SELECT time AS "Time", action AS "Action", error AS "Why", detail->'refused_by'->>'resource' AS "Of", detail->'refused_by'->>'window' AS "Per",
    status AS "Status", reference AS "Reference"
FROM audit_events
WHERE actor_id = ${member:sqlstring} AND outcome = 'failure' AND $__timeFilter(time)
ORDER BY time DESC
LIMIT 50"""),
    units={"Time": "dateTimeAsIso"}, empty="Nothing was refused",
)  # fmt: skip

DASHBOARD = dashboard(
    "member", "Member", "One person: use, tools, models, history.",
    [
        ("In this time", NUMBERS),
        ("By day", [
            days("Messages", "By the day in the org's own calendar.", hers_by_day("SUM(used.messages)"), "short", 8),
            days("Tokens by model", "By the day in the org's own calendar.", by_day("SUM(used.total_tokens)", MODEL, BY_BOTH, also=HERS), "short", 8, series=True),
            days("Cost", "By the day in the org's own calendar.", hers_by_day("SUM(used.cost_nanousd) / 1e9"), "currencyUSD", 8),
        ]),
        ("With what", [MODELS, TOOLS]),
        ("History", [HISTORY, CONVERSATIONS, REFUSED]),
    ],
    [org(several=False), variable("member", "Member", "The person, by name where the directory knows one", MEMBERS, DATABASE)],
    for_orgs=True,
)  # fmt: skip
