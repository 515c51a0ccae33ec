"""Limits and refusals: what is enforced, and apart from it what only would be."""

from parts import (TO_MEMBER, dashboard, days, lines, more_is_worse, org, prom, sql, stat, table)  # fmt: skip

# Refusals have a reference, which has an index. A shadow refusal stands in the row of the chat that it let pass, whatever
# LibreChat answered to that.
ENFORCED = """org_id = ANY (ARRAY[${org:sqlstring}]::TEXT[]) AND reference IS NOT NULL AND action = 'chat.refused'
    AND error IS DISTINCT FROM 'shadow' AND $__timeFilter(time)"""
SHADOW = """org_id = ANY (ARRAY[${org:sqlstring}]::TEXT[]) AND reference IS NOT NULL AND error = 'shadow' AND $__timeFilter(time)"""

LIMIT = """CASE WHEN detail ? 'refused_by'
    THEN concat_ws(' ', detail->'refused_by'->>'resource', 'a', detail->'refused_by'->>'window', 'of', detail->'refused_by'->>'scope')
    ELSE COALESCE(error, 'other') END"""


def aliased(condition):
    return condition.replace("org_id =", "refused.org_id =").replace("$__timeFilter(time)", "$__timeFilter(refused.time)")


def numbers(condition, of):
    """How many, of how many people, and by which limits."""
    return [
        stat("Refusals" if of == "enforced" else "Would be refused", "Chats that were refused." if of == "enforced" else
             "Chats that went on, and that a limit in shadow mode would have refused.",
             sql(f"SELECT COALESCE(SUM(count), 0) AS refusals\nFROM audit_events\nWHERE {condition}"), width=4, thresholds=more_is_worse(1, 100_000_000)),
        stat("People" if of == "enforced" else "People in shadow", "Members whom it met.",
             sql(f"SELECT COUNT(DISTINCT actor_id) AS people\nFROM audit_events\nWHERE {condition}"), width=4),
    ]  # fmt: skip


def chart(condition, title):
    return days(title, "By the day in each org's own calendar, and by the limit, or by the rule where it was none.",
                sql(f"""
SELECT org_day AS day, {LIMIT} AS series, SUM(count) AS value
FROM audit_events
WHERE {condition}
GROUP BY 1, 2
ORDER BY 1, 2"""), "short", 16, series=True)  # fmt: skip


def members(condition, title):
    return table(title, "The 50 members whom it met most.",
                 sql(f"""
SELECT COALESCE(NULLIF(members.name, ''), members.email, refused.actor_id) AS "Member", orgs.name AS "Org", SUM(refused.count) AS "Times",
    MAX(refused.time) AS "Last", refused.org_id, refused.actor_id AS member_id
FROM audit_events AS refused
JOIN orgs ON orgs.id = refused.org_id
LEFT JOIN members ON members.librechat_id = refused.actor_id
WHERE {aliased(condition)}
GROUP BY 1, 2, refused.org_id, refused.actor_id
ORDER BY "Times" DESC
LIMIT 50"""),
                 units={"Times": "short", "Last": "dateTimeAsIso"}, hidden=["org_id", "member_id"], links={"Member": TO_MEMBER}, width=8,
                 empty="Nobody")  # fmt: skip


def latest(condition, title):
    return table(title, "The latest 100, with what was used and held of the limit then. `tollgate explain` tells the whole decision.",
                 sql(f"""
SELECT refused.time AS "Time", COALESCE(NULLIF(members.name, ''), members.email, refused.actor_id) AS "Member", refused.model AS "Model",
    {LIMIT.replace("detail", "refused.detail").replace("(error", "(refused.error")} AS "By",
    (refused.detail->'refused_by'->>'used')::NUMERIC / unit.of AS "Used", (refused.detail->'refused_by'->>'held')::NUMERIC / unit.of AS "Held",
    (refused.detail->'refused_by'->>'limit')::NUMERIC / unit.of AS "Limit", refused.detail->'refused_by'->>'resets_at' AS "Resets",
    refused.reference AS "Reference", refused.org_id, refused.actor_id AS member_id
FROM audit_events AS refused
LEFT JOIN members ON members.librechat_id = refused.actor_id
CROSS JOIN LATERAL (SELECT CASE WHEN refused.detail->'refused_by'->>'resource' = 'cost' THEN 1e9 ELSE 1 END AS of) AS unit
WHERE {aliased(condition)}
ORDER BY refused.time DESC
LIMIT 100"""),
                 units={"Time": "dateTimeAsIso", "Used": "short", "Held": "short", "Limit": "short"}, hidden=["org_id", "member_id"],
                 links={"Member": TO_MEMBER}, width=24, height=9, empty="Nothing was refused")  # fmt: skip


def metric(decision, title, about):
    return lines(title, about,
                 prom(f'60 * sum by (scope, resource, window) (rate(tollgate_decisions_total{{decision="{decision}"}}[$__rate_interval])) > 0',
                      "{{resource}} a {{window}} of {{scope}}"), "short", 12, 7, stacked=True)  # fmt: skip


def other(decision, title, about, **more):
    return stat(title, about, prom(f'sum(increase(tollgate_decisions_total{{decision="{decision}"}}[$__range]))', title, now=True), width=4, **more)


DASHBOARD = dashboard(
    "limits", "Limits and refusals", "What limits refuse, and apart from it what limits in shadow mode would refuse.",
    [
        ("Enforced", [
            *numbers(ENFORCED, "enforced"),
            other("refused", "By a limit", "Of all orgs, as metrics count them."),
            other("policy", "By a rule", "Before any limit: no org, or a model without a price. Of all orgs."),
            other("degraded_refused", "The store was away", "Refused, because limits that are closed then could not be asked. Of all orgs.",
                  thresholds=more_is_worse(1, 100)),
            other("degraded_admitted", "Let in unasked", "Let in, because limits that are open then could not be asked. Of all orgs.",
                  thresholds=more_is_worse(1, 100)),
            chart(ENFORCED, "Refusals by limit"),
            members(ENFORCED, "Whom they meet"),
            metric("refused", "Refusals a minute", "Of all orgs, by the limit that decided."),
            lines("Decisions a minute", "Of all orgs: what was decided before anything was forwarded.",
                  prom('60 * sum by (decision) (rate(tollgate_decisions_total{decision!="shadow_refused"}[$__rate_interval]))', "{{decision}}"), "short",
                  12, 7),
            latest(ENFORCED, "Latest refusals"),
        ]),
        ("Shadow: decided, recorded, and let pass", [
            *numbers(SHADOW, "shadow"),
            other("shadow_refused", "By a shadow limit", "Of all orgs, as metrics count them: one chat may be met by several."),
            metric("shadow_refused", "Shadow refusals a minute", "Of all orgs, by the limit that would have decided."),
            chart(SHADOW, "Shadow refusals by limit"),
            members(SHADOW, "Whom they would meet"),
            latest(SHADOW, "Latest shadow refusals"),
        ]),
    ],
    [org()],
    since="now-7d",
    for_orgs=True,
)  # fmt: skip
