"""Tools: MCP servers and LibreChat's own tools."""

from parts import (DATABASE, NAMED, PERSON, TO_MEMBER, bars, by_day, by_person, dashboard, days, indented, lines, more_is_worse, most, org, prom,
                   sql, stat, table, tidy, used, variable)  # fmt: skip

OWN = "LibreChat''s own"
SERVER = f"COALESCE(NULLIF(used.mcp_server, ''), '{OWN}')"

SERVERS = tidy(f"""
SELECT DISTINCT {SERVER}
FROM tools_daily AS used
WHERE used.org_id = ANY (ARRAY[${{org:sqlstring}}]::TEXT[])
ORDER BY 1""")

# Chosen servers as they stand in the sums, where LibreChat's own has no name.
SERVERS_CHOSEN = f"ANY (array_replace(ARRAY[${{server:sqlstring}}]::TEXT[], '{OWN}', ''))"
IS_CHOSEN = f"used.mcp_server = {SERVERS_CHOSEN}"
CHOSEN = f"WHERE {IS_CHOSEN}"
OF_RANGE = used("tools_daily", also=CHOSEN)


def chosen_by_day(value, series=None):
    return by_day(value, series, "tools_daily", also=CHOSEN)


def total(expression):
    return sql(f"SELECT {expression}\n{OF_RANGE}")


GOOD = "SUM(used.calls - used.failures)"
FAILED = "SUM(used.failures)"
SHARE = "SUM(used.failures) * 1.0 / NULLIF(SUM(used.calls), 0)"
TOOK = "SUM(used.duration_ms_sum) * 1.0 / NULLIF(SUM(used.duration_count), 0)"
BAD = more_is_worse(0.05, 0.25)

NUMBERS = [
    stat("Calls", "Calls of tools by answers.", total("SUM(used.calls) AS calls"), width=4),
    stat("Not failed", "Calls that succeeded. Those whose result nobody saw before the answer ended are among them.", total(f"{GOOD} AS good"), width=4),
    stat("Failed", "Calls whose result is a failure, as `[tools] failure_patterns` knows it.", total(f"{FAILED} AS failed"), width=4,
         thresholds=more_is_worse(1, 100_000_000)),
    stat("Share failed", "Failed calls of all calls.", total(f"{SHARE} AS share"), "percentunit", width=4, thresholds=BAD),
    stat("A call takes", "On average, where its beginning and its end were seen.", total(f"{TOOK} AS ms"), "ms", width=4),
    stat("People", "Members whose messages led to calls.", total("COUNT(DISTINCT used.member_id) AS people"), width=4),
]  # fmt: skip

UNITS = {"Calls": "short", "Not failed": "short", "Failed": "short", "Share failed": "percentunit", "Takes": "ms", "At most": "ms"}


def by(column, keys, title, about, **more):
    return table(
        title, about,
        sql(f"""
SELECT {column}, SUM(used.calls) AS "Calls", {GOOD} AS "Not failed", {FAILED} AS "Failed", {SHARE} AS "Share failed", {TOOK} AS "Takes",
    MAX(used.duration_ms_max) AS "At most"
{OF_RANGE}
GROUP BY {keys}
ORDER BY "Calls" DESC
LIMIT 100"""),
        units=UNITS, coloured={"Share failed": BAD}, sort="Calls", **more,
    )  # fmt: skip


CALLS = f"SUM(used.calls) AS calls, {FAILED} AS failed"

MEMBERS = table(
    "By member", "The 50 members whose messages led to most calls.",
    sql(f"""
SELECT {PERSON} AS "Member", used.org AS "Org", used.calls AS "Calls", used.calls - used.failed AS "Not failed", used.failed AS "Failed",
    used.failed * 1.0 / NULLIF(used.calls, 0) AS "Share failed", used.org_id, used.member_id
{most(by_person(CALLS, table="tools_daily", also=IS_CHOSEN), 50, "calls")}
ORDER BY "Calls" DESC"""),
    units=UNITS, hidden=["org_id", "member_id"], links={"Member": TO_MEMBER}, coloured={"Share failed": BAD}, sort="Calls",
)  # fmt: skip

TOP_FIVE = table(
    "The five tools of each", "What the ten members with most calls call most: five tools each.",
    sql(f"""
WITH placed AS (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY org_id, member_id ORDER BY calls DESC, tool) AS place, SUM(calls) OVER (PARTITION BY org_id, member_id) AS of_member
    FROM {indented(by_person(CALLS, "used.member_id, used.tool, used.mcp_server", "tools_daily", also=IS_CHOSEN))}
), ranked AS (
    SELECT *, DENSE_RANK() OVER (ORDER BY of_member DESC, org_id, member_id) AS rank FROM placed
)
SELECT {PERSON} AS "Member", used.place AS "#", used.tool AS "Tool", {SERVER} AS "Server", used.calls AS "Calls", used.failed AS "Failed", used.org_id,
    used.member_id
FROM ranked AS used
{NAMED}
WHERE used.rank <= 10 AND used.place <= 5
ORDER BY used.rank, used.place"""),
    units={"#": "none", "Calls": "short", "Failed": "short"}, hidden=["org_id", "member_id"], links={"Member": TO_MEMBER},
)  # fmt: skip

FAILURES = table(
    "Latest failures", "The latest 100 calls that failed, with how the result begins; secrets are masked.",
    sql(f"""
SELECT used.time AS "Time", {PERSON} AS "Member", used.tool AS "Tool", {SERVER} AS "Server", used.error AS "Error",
    used.duration_ms AS "Took", used.org_id, used.member_id
FROM tool_calls AS used
{NAMED}
WHERE used.org_id = ANY (ARRAY[${{org:sqlstring}}]::TEXT[]) AND COALESCE(used.mcp_server, '') = {SERVERS_CHOSEN} AND used.outcome = 'failure' AND $__timeFilter(used.time)
ORDER BY used.time DESC
LIMIT 100"""),
    units={"Time": "dateTimeAsIso", "Took": "ms"}, hidden=["org_id", "member_id"], links={"Member": TO_MEMBER}, width=24, height=9, empty="Nothing failed",
)  # fmt: skip

DASHBOARD = dashboard(
    "tools", "Tools", "MCP servers and LibreChat's own tools: what is called, what succeeds, what fails, and for whom.",
    [
        ("In this time", NUMBERS),
        ("By day", [
            days("Not failed, by tool", "By the day in each org's own calendar.", chosen_by_day(GOOD, "used.tool"), "short", 8, series=True),
            days("Failed, by tool", "By the day in each org's own calendar. An axis of its own: failures are few.",
                 chosen_by_day(FAILED, "used.tool"), "short", 8, series=True),
            bars("Calls by MCP server", "Every server, and LibreChat's own tools.",
                 sql(f"SELECT {SERVER} AS server, SUM(used.calls) AS calls\n{OF_RANGE}\nGROUP BY used.mcp_server\nORDER BY 2 DESC\nLIMIT 20"), "short", 8, rows=True),
        ]),
        ("By what and whom", [
            by(f'used.tool AS "Tool", {SERVER} AS "Server"', "used.tool, used.mcp_server", "By tool", "Every tool, of which server, how it went and how long it took.", height=10),
            by(f'{SERVER} AS "Server"', "used.mcp_server", "By MCP server", "Every server: how it went and how long it took.", height=10),
            MEMBERS,
            TOP_FIVE,
        ]),
        ("What failed", [FAILURES,
            lines("Calls by how they ended", "Of all orgs, a minute. `unknown` are those whose result nobody saw before the answer ended.",
                  prom("60 * sum by (outcome) (rate(tollgate_tool_calls_total[$__rate_interval]))", "{{outcome}}"), "short", 24, 7),
        ]),
    ],
    [org(), variable("server", "MCP servers", "The MCP servers whose tools are shown, and LibreChat's own", SERVERS, DATABASE, several=True)],
    for_orgs=True,
)  # fmt: skip
