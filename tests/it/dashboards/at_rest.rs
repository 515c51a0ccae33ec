//! What panels show while all is well: most of them something. Those that do not stand here, with what fills them.

use super::grafana::Panel;

/// What a panel shows on a good day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Numbers or lines.
    Shows,
    /// Numbers, which are rightly zero.
    Zero,
    /// Nothing, rightly, until this happens.
    Empty(Case),
}

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// People are refused, fail to sign in, and tools, answers and LibreChat fail.
    BadDay,
    /// Usage is rated anew.
    Repriced,
    /// The store of counters does not answer.
    StoreAway,
}

impl Case {
    pub const ALL: [Self; 3] = [Self::BadDay, Self::Repriced, Self::StoreAway];
}

/// By the dashboard's uid, with the titles of panels.
const AT_REST: &[(&str, Rest, &[&str])] = &[
    (
        "tollgate-audit",
        Rest::Empty(Case::BadDay),
        &[
            "Errors",
            "Warnings",
            "Failed sign-ins",
            "Refused credentials",
            "Credentials refused",
            "Lockouts",
            "Locked",
            "By severity",
            "What it was",
            "Refused credentials a minute",
            "Lockouts by kind",
            "Errors and what is critical",
            "Failed sign-ins by name",
        ],
    ),
    ("tollgate-audit", Rest::Empty(Case::Repriced), &["What admins did"]),
    ("tollgate-audit", Rest::Zero, &["Critical"]),
    (
        "tollgate-cost",
        Rest::Empty(Case::BadDay),
        &["Charged by estimates", "Without a price", "Used, and cost nothing", "Messages without a price"],
    ),
    ("tollgate-cost", Rest::Empty(Case::Repriced), &["Corrections"]),
    ("tollgate-gateway", Rest::Empty(Case::BadDay), &["Server errors", "Server errors a second", "Client errors a second", "Error budget"]),
    ("tollgate-gateway", Rest::Empty(Case::StoreAway), &["Failed calls a second"]),
    ("tollgate-gateway", Rest::Empty(Case::StoreAway), &["Parts that do not work"]),
    (
        "tollgate-gateway",
        Rest::Zero,
        &[
            "Slow requests",
            "Repaired counters",
            "Oldest row in the journal",
            "Oldest running answer",
            "Rows lost",
            "Taken over",
            "Chats that are not in the journal",
        ],
    ),
    (
        "tollgate-limits",
        Rest::Empty(Case::BadDay),
        &["Refusals", "People", "By a limit", "By a rule", "Refusals by limit", "Whom they meet", "Refusals a minute", "Latest refusals"],
    ),
    ("tollgate-limits", Rest::Empty(Case::StoreAway), &["The store was away", "Let in unasked"]),
    ("tollgate-member", Rest::Empty(Case::BadDay), &["Failed answers", "Refusals", "What was refused"]),
    ("tollgate-org", Rest::Empty(Case::BadDay), &["Refusals", "Failed answers"]),
    ("tollgate-overview", Rest::Empty(Case::BadDay), &["Refusals", "Failed answers", "Alerts that fire", "Server errors"]),
    ("tollgate-servers", Rest::Zero, &["Network a second"]),
    ("tollgate-tools", Rest::Empty(Case::BadDay), &["Failed", "Share failed", "Failed, by tool", "Latest failures"]),
];

/// Every panel that stands in the table.
pub fn named() -> impl Iterator<Item = (&'static str, &'static str)> {
    AT_REST.iter().flat_map(|(uid, _, titles)| titles.iter().map(|title| (*uid, *title)))
}

pub fn of(panel: Panel<'_>) -> Rest {
    let known = AT_REST.iter().find(|(uid, _, titles)| *uid == panel.dashboard.uid() && titles.contains(&panel.title()));
    known.map_or(Rest::Shows, |(_, rest, _)| *rest)
}
