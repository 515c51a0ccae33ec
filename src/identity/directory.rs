//! The orgs, as the configuration names them.

use std::sync::Arc;

use jiff::tz::TimeZone;

/// The language of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// Korean.
    Ko,
}

/// A tenant.
#[derive(Debug, Clone)]
pub struct Org {
    /// Its id.
    pub id: Arc<str>,
    /// Its name, for people.
    pub name: Arc<str>,
    /// E-mail domains of its members, in lower case.
    pub domains: Vec<String>,
    /// Its calendar.
    pub zone: TimeZone,
    /// Its plan, if it has one.
    pub plan: Option<Arc<str>>,
    /// The language of its refusals; the person's where it has none.
    pub language: Option<Language>,
}

/// Every org, by id and by e-mail domain.
#[derive(Debug, Default)]
pub struct Directory {
    orgs: Vec<Arc<Org>>,
}

impl Directory {
    /// A directory of these orgs. The configuration has checked that ids and domains are unique.
    pub fn new(orgs: Vec<Org>) -> Self {
        Self { orgs: orgs.into_iter().map(Arc::new).collect() }
    }

    /// Every org.
    pub fn orgs(&self) -> &[Arc<Org>] {
        &self.orgs
    }

    /// The org with this id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Org>> {
        self.orgs.iter().find(|org| &*org.id == id)
    }

    /// The org that owns the domain of this e-mail address.
    pub fn by_email(&self, email: &str) -> Option<&Arc<Org>> {
        let domain = email.rsplit_once('@')?.1.to_ascii_lowercase();
        self.orgs.iter().find(|org| org.domains.contains(&domain))
    }
}
