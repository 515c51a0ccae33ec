//! What an org and a member are.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::identity::access::Access;
use crate::identity::addresses::Networks;
use crate::identity::{DEFAULT_ROLE, VIEWER};
use crate::limits::{Period, Window};
use crate::records::Capture;

/// The language of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// Korean.
    Ko,
}

impl Language {
    /// As it stands in the configuration and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ko => "ko",
        }
    }

    /// The same, read.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::En, Self::Ko].into_iter().find(|language| language.as_str() == word)
    }
}

/// Whether an org or a member may use what costs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// They may.
    #[default]
    Active,
    /// They may not, until somebody says otherwise.
    Suspended,
}

impl Standing {
    /// As it stands in the database and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    /// The same, read.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Active, Self::Suspended].into_iter().find(|standing| standing.as_str() == word)
    }
}

/// Who becomes a member of an org on first sight. Whoever is in the directory is one anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joining {
    /// People of LibreChat whom their e-mail domain or the default org puts there.
    pub by_domain: bool,
    /// People whom an issuer vouches for.
    pub by_token: bool,
}

impl Default for Joining {
    fn default() -> Self {
        Self { by_domain: true, by_token: true }
    }
}

impl Joining {
    /// Only those who are in the directory already.
    pub const INVITED: Self = Self { by_domain: false, by_token: false };

    /// As it stands in the database and in answers: words with commas between them, `invited` where there is none.
    pub fn text(self) -> &'static str {
        match (self.by_domain, self.by_token) {
            (true, true) => "by_domain,by_token",
            (true, false) => "by_domain",
            (false, true) => "by_token",
            (false, false) => "invited",
        }
    }

    /// The same, read.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut joining = Self::INVITED;
        for word in text.split(',').map(str::trim) {
            match word {
                "by_domain" => joining.by_domain = true,
                "by_token" => joining.by_token = true,
                "invited" => {}
                _ => return None,
            }
        }
        Some(joining)
    }
}

/// A tenant.
#[derive(Debug, Clone)]
pub struct Org {
    /// Its id.
    pub id: Arc<str>,
    /// Its name, for people.
    pub name: Arc<str>,
    /// E-mail domains of its members, in lower case; an international domain in its `xn--` form.
    pub domains: Vec<String>,
    /// Its calendar.
    pub zone: TimeZone,
    /// Its plan, if it has one.
    pub plan: Option<Arc<str>>,
    /// The language of its refusals; the person's where it has none.
    pub language: Option<Language>,
    /// What of its members' prompts stands in its audit rows.
    pub capture: Capture,
    /// Whether nothing of it may be removed or made unreadable, for a court's or an authority's sake.
    pub legal_hold: bool,
    /// Whether it may use what costs something.
    pub standing: Standing,
    /// Who becomes a member on first sight.
    pub joining: Joining,
    /// The name of its policy, if it has one.
    pub policy: Option<Arc<str>>,
    /// Which ways lead to it.
    pub access: Access,
}

impl Org {
    /// An org that the configuration names is what that says of it, but for its standing.
    pub(super) fn as_configured(&self, configured: &Self) -> Self {
        Self { standing: self.standing, ..configured.clone() }
    }

    /// The day of an instant in its calendar, `2026-11-20`.
    pub fn day(&self, time: Timestamp) -> String {
        Period::at(Window::Day, time, &self.zone).key()
    }

    /// The month of an instant in its calendar, `2026-11`.
    pub fn month(&self, time: Timestamp) -> String {
        Period::at(Window::Month, time, &self.zone).key()
    }
}

/// A person in an org.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Their id in the directory.
    pub id: Uuid,
    /// The org's id; empty for a person of LibreChat whom no org claims.
    pub org: Arc<str>,
    /// Their id in the embedding application.
    pub external_id: Option<Arc<str>>,
    /// Their id in LibreChat, 24 hex digits; nobody else has it.
    pub librechat_id: Option<Arc<str>>,
    /// Their e-mail address, in lower case.
    pub email: Option<Arc<str>>,
    /// Their name.
    pub name: Option<Arc<str>>,
    /// Their role, one of [`crate::identity::ROLES`].
    pub role: Arc<str>,
    /// Whether they may use what costs something.
    pub standing: Standing,
    /// Where they may come from, on top of where their org lets them; anywhere when left out.
    pub addresses: Option<Networks>,
    /// When they were last seen, to some minutes; only as the database has it.
    pub last_seen: Option<Timestamp>,
}

impl Member {
    /// Somebody of this org, none where that is empty, who is seen for the first time now. Nothing else is known of them yet.
    pub fn seen_first(org: Arc<str>, now: Timestamp) -> Self {
        Self {
            id: Uuid::now_v7(),
            org,
            external_id: None,
            librechat_id: None,
            email: None,
            name: None,
            role: DEFAULT_ROLE.into(),
            standing: Standing::Active,
            addresses: None,
            last_seen: Some(now),
        }
    }

    /// Whether they look on and send nothing.
    pub fn is_viewer(&self) -> bool {
        *self.role == *VIEWER
    }

    /// The LibreChat id of a member who lost something since they were as before: who is suspended now, has moved to another
    /// org, or looks on only.
    pub(super) fn lost_since(&self, before: Option<&Self>) -> Option<Arc<str>> {
        let suspended = |member: &Self| member.standing == Standing::Suspended;
        let is_suspended = suspended(self) && !before.is_some_and(suspended);
        let has_moved = before.is_some_and(|before| !before.org.is_empty() && before.org != self.org);
        let looks_on = self.is_viewer() && before.is_some_and(|before| !before.is_viewer());
        let id = before.and_then(|before| before.librechat_id.clone()).or_else(|| self.librechat_id.clone());
        id.filter(|_| is_suspended || has_moved || looks_on)
    }
}

/// An e-mail address as the directory keeps it.
pub fn kept_email(email: &str) -> Arc<str> {
    email.trim().to_lowercase().into()
}
