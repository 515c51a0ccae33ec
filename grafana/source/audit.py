"""Audit and security: who did what, and who tried to."""

from parts import (DATABASE, bars, dashboard, lines, more_is_worse, org, prom, sql, stat, table, variable)  # fmt: skip

# What no org is known of belongs to those who run the place; readers of an org never see it.
OF_ORGS = "(org_id = ANY (ARRAY[${org:sqlstring}]::TEXT[]) OR org_id IS NULL)"
CHOSEN = f"""{OF_ORGS} AND category = ANY (ARRAY[${{category:sqlstring}}]::TEXT[])
    AND severity = ANY (ARRAY[${{severity:sqlstring}}]::TEXT[]) AND $__timeFilter(time)"""
NOT_INFO = f"severity IN ('WARNING', 'ERROR', 'CRITICAL') AND {OF_ORGS} AND $__timeFilter(time)"


def words(name, label, about, listed, several=True):
    """A choice of words that are known beforehand."""
    made = variable(name, label, about, "", DATABASE, several)
    made.update({"type": "custom", "query": ",".join(listed)})
    for key in ("datasource", "definition", "refresh", "sort"):
        del made[key]
    made["options"] = [{"text": word, "value": word, "selected": False} for word in listed]
    return made


def count(title, about, condition, **more):
    return stat(title, about, sql(f"SELECT COALESCE(SUM(count), 0) AS rows\nFROM audit_events\nWHERE {condition}"), width=4, **more)


def over_time(column, title, about, condition):
    return lines(title, about,
                 sql(f"""
SELECT $__timeGroupAlias(time, $__interval), {column} AS metric, SUM(count) AS value
FROM audit_events
WHERE {condition}
GROUP BY 1, 2
ORDER BY 1""", series=True), "short", stacked=True)  # fmt: skip


BAD = more_is_worse(1, 100_000_000)
FAILED = "action IN ('auth.login_failed', 'auth.two_factor_failed', 'auth.admin_login_failed')"

GRAVE = table(
    "Errors and what is critical", "The latest 100. CRITICAL: lost records, a broken chain, a sign-in from a new place after a lockout, a store that is full.",
    sql(f"""
SELECT time AS "Time", severity AS "Severity", category AS "Category", action AS "Action", error AS "Error", status AS "Status", org_id AS "Org",
    count AS "Count", reference AS "Reference"
FROM audit_events
WHERE severity IN ('ERROR', 'CRITICAL') AND {OF_ORGS} AND $__timeFilter(time)
ORDER BY time DESC
LIMIT 100"""),
    units={"Time": "dateTimeAsIso", "Count": "short"}, width=24, empty="Nothing went wrong",
)  # fmt: skip

ROWS = table(
    "Rows", "The latest 200 of what is chosen above. Names and addresses of known people are sealed: `tollgate explain` and `audit export --unsealed` show them.",
    sql(f"""
SELECT time AS "Time", severity AS "Severity", category AS "Category", action AS "Action", outcome AS "Outcome", error AS "Error", status AS "Status",
    org_id AS "Org", actor_id AS "Who", resource_type AS "What", resource_id AS "Which", count AS "Count", reference AS "Reference"
FROM audit_events
WHERE {CHOSEN}
ORDER BY time DESC
LIMIT 200"""),
    units={"Time": "dateTimeAsIso", "Count": "short"}, width=24, height=12,
)  # fmt: skip

REFUSED = table(
    "Refused credentials", "Where tokens, keys and cookies were refused: by address, of which the row is in the clear since nobody is known by it.",
    sql(f"""
SELECT address AS "From", error AS "Why", SUM(count) AS "Times", MIN(time) AS "First", MAX(time) AS "Last"
FROM audit_events
WHERE category = 'SECURITY' AND action = 'auth.token_refused' AND {OF_ORGS} AND $__timeFilter(time)
GROUP BY 1, 2
ORDER BY "Times" DESC
LIMIT 50"""),
    units={"Times": "short", "First": "dateTimeAsIso", "Last": "dateTimeAsIso"}, empty="Nothing was refused", of_nobody=True,
)  # fmt: skip

LOGINS = table(
    "Failed sign-ins by name", "Names are hashes: of one person they are the same. `tollgate lockouts` lists and opens locks.",
    sql(f"""
SELECT resource_id AS "Name", action AS "Action", error AS "Why", SUM(count) AS "Times", MAX(time) AS "Last"
FROM audit_events
WHERE severity IN ('WARNING', 'ERROR', 'CRITICAL') AND {FAILED} AND {OF_ORGS} AND $__timeFilter(time)
GROUP BY 1, 2, 3
ORDER BY "Times" DESC
LIMIT 50"""),
    units={"Times": "short", "Last": "dateTimeAsIso"}, empty="Nobody failed",
)  # fmt: skip

LOCKS = table(
    "Lockouts", "What failed sign-ins have locked, and until when.",
    sql(f"""
SELECT time AS "Time", detail->>'locked' AS "What", resource_id AS "Which", detail->>'until' AS "Until", org_id AS "Org"
FROM audit_events
WHERE severity IN ('WARNING', 'ERROR', 'CRITICAL') AND action = 'auth.locked' AND {OF_ORGS} AND $__timeFilter(time)
ORDER BY time DESC
LIMIT 50"""),
    units={"Time": "dateTimeAsIso"}, empty="Nothing was locked",
)  # fmt: skip

ADMIN = table(
    "What admins did", "The latest 100 changes: directory, lockouts, keys, statements, erasures.",
    sql(f"""
SELECT time AS "Time", action AS "Action", outcome AS "Outcome", actor_id AS "Who", resource_type AS "What", resource_id AS "Which", org_id AS "Org"
FROM audit_events
WHERE category IN ('ADMIN', 'DATA') AND {OF_ORGS} AND $__timeFilter(time)
ORDER BY time DESC
LIMIT 100"""),
    units={"Time": "dateTimeAsIso"}, empty="Nobody changed anything",
)  # fmt: skip

DASHBOARD = dashboard(
    "audit", "Audit and security", "Who did what, and who tried to: by category and severity, failed sign-ins, refused credentials, lockouts.",
    [
        ("In this time", [
            count("Critical", "Someone must look now.", f"severity = 'CRITICAL' AND {OF_ORGS} AND $__timeFilter(time)", thresholds=more_is_worse(1, 1)),
            count("Errors", "Requests that were answered with a server error.", f"severity = 'ERROR' AND {OF_ORGS} AND $__timeFilter(time)", thresholds=BAD),
            count("Warnings", "Refusals and failures.", f"severity = 'WARNING' AND {OF_ORGS} AND $__timeFilter(time)"),
            count("Failed sign-ins", "With LibreChat's own accounts.", f"{NOT_INFO} AND {FAILED}", thresholds=BAD),
            count("Credentials refused", "Tokens, keys and cookies that were refused. Those that merely expired are not among them.",
                  f"category = 'SECURITY' AND action = 'auth.token_refused' AND {OF_ORGS} AND $__timeFilter(time)", thresholds=BAD, of_nobody=True),
            count("Locked", "Names, codes and addresses that were locked.", f"{NOT_INFO} AND action = 'auth.locked'", thresholds=BAD),
        ]),
        ("By kind", [
            over_time("category", "By category", "All rows of the severities that are chosen.", CHOSEN),
            over_time("severity", "By severity", "Without INFO, which is what went well.", NOT_INFO),
            bars("What it was", "The 15 commonest of what did not go well.",
                 sql(f"SELECT action, SUM(count) AS rows\nFROM audit_events\nWHERE {NOT_INFO}\nGROUP BY 1\nORDER BY 2 DESC\nLIMIT 15"), "short", rows=True),
            lines("Sign-ins a minute", "Of all orgs, by what became of them.",
                  prom("60 * sum by (outcome) (rate(tollgate_logins_total[$__rate_interval])) > 0", "{{outcome}}"), "short", stacked=True),
            lines("Refused credentials a minute", "Of all orgs, by reason.",
                  prom("60 * sum by (reason) (rate(tollgate_token_refusals_total[$__rate_interval]))", "{{reason}}"), "short", stacked=True),
            lines("Lockouts by kind", "Of all orgs: how often failed sign-ins locked something since each replica started.",
                  prom("sum by (locked) (tollgate_login_locks_total)", "{{locked}}"), "short"),
        ]),
        ("What to look at", [GRAVE, REFUSED, LOGINS, LOCKS, ADMIN]),
        ("Everything", [ROWS]),
    ],
    [
        org(),
        words("category", "Categories", "What rows are about", ["AUTH", "API", "ADMIN", "SECURITY", "DATA", "SYSTEM"]),
        words("severity", "Severities", "How much rows matter", ["INFO", "WARNING", "ERROR", "CRITICAL"]),
    ],
    since="now-24h",
    for_orgs=True,
)  # fmt: skip
