"""Panels, variables and whole dashboards as Grafana keeps them, so that the dashboards themselves say only what is theirs.

What is the same everywhere is decided here: data sources by the uids that are provisioned, named colours alone (they have a dark
and a light form), what an empty panel says, links among the dashboards, and the grid.
"""

PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
DATABASE = {"type": "grafana-postgresql-datasource", "uid": "timescaledb"}

# The version of the schema that Grafana 11.4 writes; later ones read it.
SCHEMA = 40

GREEN, YELLOW, RED, NEUTRAL = "green", "yellow", "red", "text"


# ---- Questions --------------------------------------------------------------------------------------------------------


def sql(text, series=False):
    """A question to the database; `series` for answers whose first column is a time."""
    form = "time_series" if series else "table"
    return {"datasource": DATABASE, "format": form, "rawQuery": True, "editorMode": "code", "rawSql": tidy(text)}


def prom(expr, legend="", now=False, table=False):
    """A question to Prometheus: over the range, or `now`."""
    target = {"datasource": PROMETHEUS, "expr": tidy(expr), "editorMode": "code", "instant": now, "range": not now}
    target["format"] = "table" if table else "time_series"
    # Grafana's own word for "make one of the labels".
    target["legendFormat"] = legend or "__auto"
    return target


def tidy(text):
    lines = text.strip("\n").split("\n")
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    # A first line that begins behind its quotes has lost its indent.
    common = min(indents[1:] or indents) if indents and indents[0] == 0 else min(indents or [0])
    return "\n".join(line[common:] if line.startswith(" " * common) else line for line in lines).strip()


# Daily sums: of all models together where nothing is asked of models and endpoints, of all members together where nothing is
# asked of people, and of both apart.
BY_MEMBER, BY_MODEL, BY_BOTH = "members_daily", "models_daily", "usage_daily"

# This month's daily sums of the chosen orgs, in the calendar of each.
OF_MONTH = f"""FROM {BY_MEMBER} AS used
JOIN (
    SELECT id, name, to_char(now() AT TIME ZONE time_zone, 'YYYY-MM') AS month
    FROM orgs WHERE id = ANY (ARRAY[${{org:sqlstring}}]::TEXT[]) OFFSET 0
) AS orgs ON orgs.id = used.org_id AND used.org_day BETWEEN orgs.month || '-01' AND orgs.month || '-31'"""


def calendar(everyone=False):
    """The chosen orgs with the days of the range in the calendar of each, neither the browser's nor the server's. They are worked
    out once for each org, and not for each line: OFFSET keeps them apart."""
    chosen = "" if everyone else "WHERE id = ANY (ARRAY[${org:sqlstring}]::TEXT[]) "
    return f"""(
    SELECT id, name, time_zone, to_char($__timeFrom()::TIMESTAMPTZ AT TIME ZONE time_zone, 'YYYY-MM-DD') AS first_day,
        to_char($__timeTo()::TIMESTAMPTZ AT TIME ZONE time_zone, 'YYYY-MM-DD') AS last_day
    FROM orgs {chosen}OFFSET 0
) AS orgs"""


def used(table=BY_MEMBER, everyone=False, also=""):
    """Daily sums of the chosen orgs within the range, and joins beside them."""
    on = "orgs.id = used.org_id AND used.org_day BETWEEN orgs.first_day AND orgs.last_day"
    return f"FROM {table} AS used\nJOIN {calendar(everyone)} ON {on}" + (also and f"\n{also}")


def by_person(sums, keys="used.member_id", table=BY_MEMBER, everyone=False, also=""):
    """The same added up by person (and `keys` more), as a table `used` with `org_id` and `org`. Org by org, so that what is sorted
    fits in memory."""
    inner = f"""SELECT {keys}, {sums}
FROM {table} AS used
WHERE used.org_id = orgs.id AND used.org_day BETWEEN orgs.first_day AND orgs.last_day{also and f" AND {also}"}
GROUP BY {keys}"""
    return f"""(
    SELECT orgs.id AS org_id, orgs.name AS org, used.*
    FROM {indented(calendar(everyone))}
    CROSS JOIN LATERAL (
        {indented(inner, 8)}
    ) AS used
) AS used"""


def indented(text, by=4):
    """Its further lines moved to the right."""
    return text.replace("\n", "\n" + " " * by)


# How a person is called: by name where the directory knows one. Names are looked up for those that are shown.
PERSON = "COALESCE(NULLIF(members.name, ''), members.email, used.member_id)"
NAMED = "LEFT JOIN members ON members.librechat_id = used.member_id"


def most(people, number, of):
    """Those people (of [`by_person`]) of whom there is most, with their names beside them."""
    return f"""FROM (
    SELECT *
    FROM {indented(people)}
    ORDER BY {of} DESC
    LIMIT {number}
) AS used
{NAMED}"""


def by_day(value, series=None, table=BY_MEMBER, everyone=False, most=8, also=""):
    """Sums by the org's own days; the largest `most` series, and the others together."""
    if series is None:
        return sql(f"SELECT used.org_day AS day, {value} AS value\n{used(table, everyone, also)}\nGROUP BY 1\nORDER BY 1")
    return sql(f"""
WITH summed AS (
    SELECT used.org_day AS day, {series} AS series, {value} AS value
    {indented(used(table, everyone, also))}
    GROUP BY 1, 2
), largest AS (
    SELECT series FROM summed GROUP BY series ORDER BY SUM(value) DESC NULLS LAST LIMIT {most}
)
SELECT day, CASE WHEN series IN (SELECT series FROM largest) THEN series ELSE 'others' END AS series, SUM(value) AS value
FROM summed
GROUP BY 1, 2
ORDER BY 1, 2""")


# ---- Panels -----------------------------------------------------------------------------------------------------------


def steps(*steps):
    """Thresholds: colours with the value from which on each holds."""
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for colour, value in steps]}


PLAIN = steps((NEUTRAL, None))


def more_is_worse(warns, alarms):
    return steps((GREEN, None), (YELLOW, warns), (RED, alarms))


def panel(kind, title, about, queries, unit, size, options, custom=None, thresholds=None, colour="palette-classic", empty="none", **more):
    queries = queries if isinstance(queries, list) else [queries]
    for letter, query in zip("ABCDEFGH", queries):
        query["refId"] = letter
    defaults = {"unit": unit, "noValue": empty, "color": {"mode": colour}, "thresholds": thresholds or PLAIN, "mappings": []}
    defaults.update({key: more.pop(key) for key in ("min", "max", "decimals", "mappings") if key in more})
    defaults["custom"] = custom or {}
    sources = {query["datasource"]["uid"]: query["datasource"] for query in queries}
    return {
        "type": kind,
        "title": title,
        "description": " ".join(about.split()),
        "datasource": next(iter(sources.values())) if len(sources) == 1 else {"type": "datasource", "uid": "-- Mixed --"},
        "targets": queries,
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "options": options,
        "transformations": more.pop("transformations", []),
        "links": more.pop("links", []),
        "size": size,
        **more,
    }


def stat(title, about, query, unit="short", width=3, graph=False, **more):
    """One number, or few."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area" if graph else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": more.pop("text", "auto"),
        "wideLayout": True,
    }
    return panel("stat", title, about, query, unit, (width, 4), options, colour="thresholds", **more)


def lines(title, about, queries, unit, width=12, height=8, stacked=False, **more):
    """Lines over time."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if "thresholds" in more else "off"},
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, about, queries, unit, (width, height), options, custom, min=more.pop("min", 0), **more)


# Lines of (day, series, value) side by side, as a bar chart wants them.
SIDE_BY_SIDE = {
    "id": "groupingToMatrix",
    "options": {"rowField": "day", "columnField": "series", "valueField": "value", "emptyValue": "null"},
}


def days(title, about, query, unit, width=12, height=8, series=False, **more):
    """Bars by the org's own day. The days are names, not times: no browser's zone moves them."""
    custom = {"lineWidth": 1, "fillOpacity": 80, "axisBorderShow": False}
    options = {
        "orientation": "vertical",
        "stacking": "normal" if series else "none",
        "showValue": "never",
        "barWidth": 0.85,
        "groupWidth": 0.7,
        "xTickLabelRotation": -45,
        "xTickLabelSpacing": 100,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": series, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    more.setdefault("transformations", [SIDE_BY_SIDE] if series else [])
    return panel("barchart", title, about, query, unit, (width, height), options, custom, min=more.pop("min", 0), **more)


def bars(title, about, query, unit, width=12, height=8, **more):
    """One bar for each of few things."""
    options = {
        "displayMode": "gradient",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": more.pop("rows", False)},
        "showUnfilled": True,
        "valueMode": "text",
        "namePlacement": "left",
        "sizing": "auto",
    }
    return panel("bargauge", title, about, query, unit, (width, height), options, colour="thresholds", **more)


def table(title, about, query, units=None, hidden=(), links=None, coloured=None, width=12, height=8, sort=None, unit="string", **more):
    """A table; `units` and `links` by column, `coloured` with thresholds by column."""
    overrides = more.pop("overrides", [])
    for column, its in (units or {}).items():
        overrides.append(override(column, unit=its))
    for column in hidden:
        overrides.append(override(column, **{"custom.hidden": True}))
    for column, (text, url) in (links or {}).items():
        overrides.append(override(column, links=[{"title": text, "url": url}]))
    for column, thresholds in (coloured or {}).items():
        cell = {"type": "color-text"}
        overrides.append(override(column, thresholds=thresholds, color={"mode": "thresholds"}, **{"custom.cellOptions": cell}))
    options = {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "fields": ""}}
    if sort:
        options["sortBy"] = [{"displayName": sort, "desc": True}]
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True}
    return panel("table", title, about, query, unit, (width, height), options, custom, overrides=overrides, **more)


def override(column, **properties):
    return {
        "matcher": {"id": "byName", "options": column},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


# ---- Ways from one to the next ----------------------------------------------------------------------------------------

TO_ORG = ("The org: ${__value.text}", '/d/tollgate-org/org?var-org=${__data.fields["org_id"]:percentencode}&${__url_time_range}')
TO_MEMBER = (
    "The member: ${__value.text}",
    '/d/tollgate-member/member?var-org=${__data.fields["org_id"]:percentencode}'
    '&var-member=${__data.fields["member_id"]:percentencode}&${__url_time_range}',
)


def to(uid, title):
    """From a panel to a dashboard, with what is chosen here."""
    slug = uid.removeprefix("tollgate-")
    return {"title": title, "url": f"/d/{uid}/{slug}?${{__url_time_range}}&${{__all_variables}}", "targetBlank": False}


# ---- Variables --------------------------------------------------------------------------------------------------------


def variable(name, label, about, query, source, several=False, every=None, hidden=False, first=""):
    """What can be chosen. `every` stands for all of them where the list of them would not do."""
    made = {
        "type": "query",
        "name": name,
        "label": label,
        "description": about,
        "datasource": source,
        "query": {"query": query, "refId": name} if source is PROMETHEUS else query,
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "hide": 2 if hidden else 0,
        "options": [],
        "current": {"text": ["All"], "value": ["$__all"]} if several else {"text": first, "value": first},
    }
    if every is not None:
        made["allValue"] = every
    return made


ORGS = tidy("""
SELECT id AS __value, name AS __text
FROM orgs
ORDER BY name""")


def org(several=True):
    about = "The orgs whose numbers are shown" if several else "The org whose numbers are shown"
    return variable("org", "Orgs" if several else "Org", about, ORGS, DATABASE, several)


INSTANCE = variable(
    "instance",
    "Replicas",
    "The Tollgates whose numbers are shown",
    "label_values(tollgate_build_info, instance)",
    PROMETHEUS,
    several=True,
    every=".*",
)


# ---- Dashboards -------------------------------------------------------------------------------------------------------

GRID = 24


def dashboard(name, title, about, rows, variables=(), since="now-30d", refresh="1m", for_orgs=False, tags=()):
    """Rows of panels, from left to right and from the top down. `for_orgs` says whether admins of an org get it too."""
    return {
        "file": f"{name}.json",
        "for_orgs": for_orgs,
        "uid": f"tollgate-{name}",
        "title": title,
        "description": " ".join(about.split()),
        "rows": rows,
        "variables": list(variables),
        "since": since,
        "refresh": refresh,
        "tags": ["tollgate", *tags],
    }


def reads(panel):
    return {query["datasource"]["uid"] for query in panel["targets"]}


def finished(made, of_org):
    """As Grafana reads it. For admins of an org without what reads Prometheus, whose numbers are everyone's, and without rows
    that are no org's."""
    rows = made["rows"]
    if of_org:
        rows = [(title, [one for one in panels if reads(one) == {DATABASE["uid"]} and not one.get("of_nobody")]) for title, panels in rows]
    title = f"Tollgate / {made['title']}"
    return {
        "uid": made["uid"],
        "title": title,
        "description": made["description"],
        "tags": made["tags"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "weekStart": "",
        "refresh": made["refresh"],
        "time": {"from": made["since"], "to": "now"},
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "annotations": {"list": []},
        "links": [
            {
                "title": "Tollgate",
                "type": "dashboards",
                "tags": ["tollgate"],
                "asDropdown": True,
                "icon": "external link",
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "tooltip": "The other dashboards, with what is chosen here",
                "url": "",
            }
        ],
        "templating": {"list": made["variables"]},
        "panels": laid_out([row for row in rows if row[1]]),
    }


def laid_out(rows):
    panels, y = [], 0
    for title, members in rows:
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": GRID, "h": 1}})  # fmt: skip
        y += 1
        x = tallest = 0
        for member in members:
            width, height = member["size"]
            if x + width > GRID:
                x, y, tallest = 0, y + tallest, 0
            place = {"x": x, "y": y, "w": width, "h": height}
            kept = {key: value for key, value in member.items() if key not in ("size", "of_nobody")}
            panels.append({"id": len(panels) + 1, "gridPos": place, **kept})
            x, tallest = x + width, max(tallest, height)
        y += tallest
    return panels
