//! The orgs, as the configuration names them.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::access::{Access, Entrances};
use crate::limits::{Period, Window};
use crate::records::Capture;

/// The longest e-mail address that is looked at, in bytes (RFC 5321 4.5.3.1.3 allows a path of 256 with its brackets).
const LONGEST_EMAIL: usize = 254;

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
    /// Which ways lead to it.
    pub access: Access,
}

impl Org {
    /// The day of an instant in its calendar, `2026-11-20`.
    pub fn day(&self, time: Timestamp) -> String {
        Period::at(Window::Day, time, &self.zone).key()
    }

    /// The month of an instant in its calendar, `2026-11`.
    pub fn month(&self, time: Timestamp) -> String {
        Period::at(Window::Month, time, &self.zone).key()
    }
}

/// Every org, by id and by e-mail domain.
#[derive(Debug, Default)]
pub struct Directory {
    orgs: Vec<Arc<Org>>,
    by_id: HashMap<Arc<str>, usize>,
    by_domain: HashMap<String, usize>,
    entrances: Entrances,
}

impl Directory {
    /// A directory of these orgs. The configuration has checked that ids and domains are unique; were they not, the first
    /// org would keep them.
    pub fn new(orgs: Vec<Org>) -> Self {
        let mut directory = Self::default();
        for (index, org) in orgs.into_iter().enumerate() {
            directory.by_id.entry(org.id.clone()).or_insert(index);
            for domain in &org.domains {
                directory.by_domain.entry(domain.to_ascii_lowercase()).or_insert(index);
            }
            directory.orgs.push(Arc::new(org));
        }
        directory.entrances = Entrances::of(&directory.orgs);
        directory
    }

    /// Every org.
    pub fn orgs(&self) -> &[Arc<Org>] {
        &self.orgs
    }

    /// What the ways to all orgs come to.
    pub fn entrances(&self) -> &Entrances {
        &self.entrances
    }

    /// The org with this id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Org>> {
        self.by_id.get(id).and_then(|index| self.orgs.get(*index))
    }

    /// The day of an instant in the calendar of the org with this id.
    pub fn day_of(&self, id: &str, time: Timestamp) -> Option<String> {
        self.by_id(id).map(|org| org.day(time))
    }

    /// The org that owns the domain of this e-mail address: exactly this domain, not one above or below it.
    ///
    /// An address that two programs could read differently (several `@`, quotes, comments, a trailing dot, anything
    /// outside ASCII) belongs to no org.
    pub fn by_email(&self, email: &str) -> Option<&Arc<Org>> {
        let domain = domain_of(email)?.to_ascii_lowercase();
        self.by_domain.get(&domain).and_then(|index| self.orgs.get(*index))
    }
}

/// The domain of a plain address, `None` for anything that is not plain.
fn domain_of(email: &str) -> Option<&str> {
    if email.len() > LONGEST_EMAIL {
        return None;
    }
    let (local, domain) = email.split_once('@')?;
    let local_is_plain = !local.is_empty() && local.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&byte));
    let domain_is_plain = domain.split('.').all(is_plain_label);
    (local_is_plain && domain_is_plain).then_some(domain)
}

fn is_plain_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn org(id: &str, domains: &[&str]) -> Org {
        Org {
            id: id.into(),
            name: id.into(),
            domains: domains.iter().map(ToString::to_string).collect(),
            zone: TimeZone::UTC,
            plan: None,
            language: None,
            capture: Capture::None,
            legal_hold: false,
            access: Access::default(),
        }
    }

    fn directory() -> Directory {
        Directory::new(vec![org("acme", &["acme.test", "acme.example"]), org("beta", &["Beta.test"]), org("bare", &[])])
    }

    fn owner(email: &str) -> Option<String> {
        directory().by_email(email).map(|org| org.id.to_string())
    }

    #[test]
    fn an_org_is_found_by_id_and_by_each_of_its_domains() {
        let directory = directory();
        assert_eq!(directory.by_id("bare").map(|org| &*org.id), Some("bare"));
        assert!(directory.by_id("Acme").is_none(), "ids are compared exactly");
        assert_eq!(directory.orgs().len(), 3);
        assert_eq!(owner("ann@acme.test").as_deref(), Some("acme"));
        assert_eq!(owner("ann+tag@ACME.example").as_deref(), Some("acme"));
        assert_eq!(owner("ann@beta.test").as_deref(), Some("beta"));
    }

    #[test]
    fn an_address_that_is_not_plain_belongs_to_nobody() {
        let cases = [
            "",
            "@",
            "@acme.test",
            "ann",
            "acme.test",
            "ann@sub.acme.test",
            "ann@test",
            "ann@evilacme.test",
            "ann@acme.test.",
            "ann@.acme.test",
            "ann@acme..test",
            "ann@acme.test@evil.test",
            "ann@evil.test@acme.test",
            "\"ann@evil.test\"@acme.test",
            "ann@acme.test ",
            " ann@acme.test",
            "an n@acme.test",
            "<ann@acme.test>",
            "ann,bob@acme.test",
            "ann@acme.test\n",
            "ann@acme.test\0",
            "ann@[acme.test]",
            "ann@acme\u{3002}test",
            "ann\u{ff20}evil.test@acme.test",
            "ann@\u{430}cme.test",
            "ann@acme.te\u{17f}t",
        ];
        for case in cases {
            assert_eq!(owner(case), None, "{case:?} must belong to no org");
        }
        assert_eq!(owner(&format!("{}@acme.test", "a".repeat(300))), None, "a very long address belongs to no org");
    }

    proptest! {
        #[test]
        fn any_text_has_at_most_the_org_of_its_exact_domain(email in ".{0,40}(@|\\.|acme|test|beta){0,6}.{0,10}") {
            if let Some(id) = owner(&email) {
                let domain = email.to_ascii_lowercase();
                let domain = domain.rsplit('@').next().unwrap_or_default();
                let expected = match domain {
                    "acme.test" | "acme.example" => "acme",
                    "beta.test" => "beta",
                    other => panic!("{other:?} is no org's domain, yet {email:?} belongs to {id}"),
                };
                prop_assert_eq!(id, expected);
            }
        }
    }
}
