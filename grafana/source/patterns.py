"""Usage patterns: when an org works, in its own time zone."""

from parts import by_day, dashboard, days, indented, org, override, sql, stat, table, used

WEEKDAYS = "(VALUES (1, 'Monday'), (2, 'Tuesday'), (3, 'Wednesday'), (4, 'Thursday'), (5, 'Friday'), (6, 'Saturday'), (7, 'Sunday'))"

# Hours of UTC, moved to the org's calendar. Zones that are half an hour off are half an hour off here.
LOCAL = f"""local AS (
    SELECT used.hour::TIMESTAMPTZ AT TIME ZONE orgs.time_zone AS at, used.messages, used.total_tokens, used.first_token_ms_sum, used.first_token_count
    {indented(used("usage_by_hour"))}
    WHERE used.hour::TIMESTAMPTZ BETWEEN date_trunc('hour', $__timeFrom()::TIMESTAMPTZ) AND $__timeTo()::TIMESTAMPTZ
)"""

SHADES = {"mode": "continuous-BlPu"}


def heat(title, about, value):
    hours = ",\n    ".join(f'SUM({value}) FILTER (WHERE hour = {hour}) AS "{hour:02}"' for hour in range(24))
    query = sql(f"""
WITH {LOCAL}, hours AS (
    SELECT EXTRACT(ISODOW FROM at)::INTEGER AS weekday, EXTRACT(HOUR FROM at)::INTEGER AS hour, SUM(messages) AS messages, SUM(total_tokens) AS tokens
    FROM local
    GROUP BY 1, 2
)
SELECT weekdays.name AS "Weekday",
    {hours}
FROM {WEEKDAYS} AS weekdays (number, name)
LEFT JOIN hours ON hours.weekday = weekdays.number
GROUP BY weekdays.number, weekdays.name
ORDER BY weekdays.number""")
    made = table(title, about, query, width=24, height=9, unit="short", empty="")
    made["fieldConfig"]["defaults"]["color"] = SHADES
    made["fieldConfig"]["defaults"]["custom"].update({"cellOptions": {"type": "color-background", "mode": "gradient"}, "filterable": False, "minWidth": 40})
    made["fieldConfig"]["overrides"].append(override("Weekday", unit="string", **{"custom.width": 110, "custom.cellOptions": {"type": "auto"}}))
    return made


DASHBOARD = dashboard(
    "patterns", "Usage patterns", "When an org works: by hour and weekday in its own time zone, and how often its people come back.",
    [
        ("Hour by weekday", [
            heat("Messages", "Messages by the hour and weekday of the org's time zone, all weeks of this time together. Darker is more.", "messages"),
            heat("Tokens", "Tokens by the hour and weekday of the org's time zone.", "tokens"),
        ]),
        ("Hours and days", [
            days("By hour of the day", "Messages by the hour of the org's time zone.",
                 sql(f"WITH {LOCAL}\nSELECT to_char(at, 'HH24') AS hour, SUM(messages) AS value\nFROM local\nGROUP BY 1\nORDER BY 1"), "short", 8),
            days("By weekday", "Messages by the weekday of the org's calendar.",
                 sql(f"""
SELECT to_char(used.org_day::DATE, 'ID Dy') AS weekday, SUM(used.messages) AS value
{used()}
GROUP BY 1
ORDER BY 1"""), "short", 8),
            days("First token by hour", "How long people wait for the first word, on average, by the hour of the org's time zone.",
                 sql(f"""
WITH {LOCAL}
SELECT to_char(at, 'HH24') AS hour, SUM(first_token_ms_sum) * 1.0 / NULLIF(SUM(first_token_count), 0) AS value
FROM local
GROUP BY 1
ORDER BY 1"""), "ms", 8),
        ]),
        ("People", [
            stat("People", "Who sent a message in this time.", sql(f"SELECT COUNT(DISTINCT used.member_id) AS people\n{used()}"), width=4, ),
            stat("Of all members", "Of the members that the directory has.",
                 sql(f"""
SELECT COUNT(DISTINCT used.member_id) * 1.0 / NULLIF((SELECT COUNT(*) FROM members WHERE org_id = ${{org:sqlstring}}), 0) AS share
{used()}"""), "percentunit", width=4, max=1),
            stat("On a day", "People on a day that had any, on average.",
                 sql(f"SELECT COUNT(DISTINCT (used.org_day, used.member_id)) * 1.0 / NULLIF(COUNT(DISTINCT used.org_day), 0) AS people\n{used()}"), width=4, decimals=1),
            stat("Messages of a person", "On a day that they came, on average.",
                 sql(f"SELECT SUM(used.messages) * 1.0 / NULLIF(COUNT(DISTINCT (used.org_day, used.member_id)), 0) AS messages\n{used()}"), width=4, decimals=1),
            stat("Busiest day", "The most messages on one day.",
                 sql(f"SELECT MAX(messages) AS messages\nFROM (SELECT SUM(used.messages) AS messages\n{used()}\nGROUP BY used.org_day) AS by_day"), width=4),
            stat("Tokens of a message", "On average.", sql(f"SELECT SUM(used.total_tokens) * 1.0 / NULLIF(SUM(used.messages), 0) AS tokens\n{used()}"), width=4),
            days("Active people", "By the day in the org's own calendar.", by_day("COUNT(DISTINCT used.member_id)"), "short", 12),
            days("How often people come", "How many people were here on so many days of this time.",
                 sql(f"""
SELECT lpad(days::TEXT, 2) || CASE WHEN days = 1 THEN ' day' ELSE ' days' END AS came, COUNT(*) AS value
FROM (SELECT used.member_id, COUNT(DISTINCT used.org_day) AS days
{used()}
GROUP BY 1) AS by_person
GROUP BY days
ORDER BY days"""), "short", 12),
        ]),
    ],
    [org(several=False)],
    for_orgs=True,
)  # fmt: skip
