//! Failed sign-ins, counted: the contract of where they are counted, and what is counted together.
//!
//! An attempt is reserved before anything is forwarded and ended with what LibreChat answered, so that of any number that come
//! at once no more reach LibreChat than are left before the lock. An attempt whose end is never told counts as a failure.

pub mod memory;
pub mod redis;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use super::is_user_id;
use crate::limits::StoreError;

/// How long an attempt may take from its reservation to its end. The proxy waits less long for LibreChat.
pub const ATTEMPT_LASTS: Duration = Duration::from_mins(2);

/// The longest name that is kept as it is, in bytes; of a longer one only a digest is.
const LONGEST_NAME: usize = 254;

/// A name as everything that judges names reads it.
///
/// LibreChat trims and lower-cases e-mail addresses; LDAP directories also take no notice of compatibility forms, of characters
/// that show nothing, and of how many spaces there are. Names that only some of them take for the same are the same here: at
/// worst somebody is locked together with somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoginName(Arc<str>);

impl LoginName {
    /// The name that was typed; none where it holds nothing that shows.
    pub fn of(typed: &str) -> Option<Self> {
        // Upper case first: some letters have several lower-case forms, as the sigma at the end of a word.
        let folded = typed.nfkc().filter(|letter| !is_ignored(*letter)).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        let visible: String = folded.nfkc().collect();
        let name = visible.split_whitespace().collect::<Vec<_>>().join(" ");
        match name.len() {
            0 => None,
            1..=LONGEST_NAME => Some(Self(name.into())),
            _ => Some(Self(format!("sha256:{:x}", Sha256::digest(name.as_bytes())).into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What names are prepared without (RFC 4518 2.2 maps these to nothing): controls, soft hyphens, joiners, marks of direction,
/// variation selectors, byte order marks. Controls that are white space count as that.
fn is_ignored(letter: char) -> bool {
    (letter.is_control() && !letter.is_whitespace())
        || matches!(letter, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' | '\u{e0000}'..='\u{e0fff}')
}

/// Where a client is: an IPv4 address, or the /64 of an IPv6 one, which is what a customer of a provider has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place(Arc<str>);

impl Place {
    /// The place of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_string().into()),
            IpAddr::V6(address) => {
                let network = std::net::Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64));
                Self(format!("{network}/64").into())
            }
        }
    }

    /// The place that a person writes: an address, or what [`Place`] shows itself as.
    pub fn read(written: &str) -> Option<Self> {
        let written = written.trim();
        written.strip_suffix("/64").unwrap_or(written).parse().ok().map(Self::of)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose failures are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Those of a name, from wherever.
    Name(LoginName),
    /// Those of a name from a place where its person has signed in before.
    NameAt(LoginName, Place),
    /// Those of the second factor of a LibreChat user, who has proved the password.
    SecondFactor(Arc<str>),
    /// Those of a place, of whatever names.
    Address(Place),
}

impl Subject {
    /// One word for metrics and rows.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::NameAt(..) => "name_at",
            Self::SecondFactor(_) => "second_factor",
            Self::Address(_) => "address",
        }
    }

    /// Whether it is many people's: a success of one of them forgives nothing, and it is slowed down rather than locked.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Address(_))
    }

    /// Reads what it shows itself as.
    pub fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "name" => LoginName::of(rest).map(Self::Name),
            "name_at" => {
                let (place, name) = rest.split_once(' ')?;
                Some(Self::NameAt(LoginName::of(name)?, Place::read(place)?))
            }
            "second_factor" => is_user_id(rest).then(|| Self::SecondFactor(rest.into())),
            "address" => Place::read(rest).map(Self::Address),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Name(name) => write!(f, "{kind}:{}", name.as_str()),
            Self::NameAt(name, place) => write!(f, "{kind}:{} {}", place.as_str(), name.as_str()),
            Self::SecondFactor(user) => write!(f, "{kind}:{user}"),
            Self::Address(place) => write!(f, "{kind}:{}", place.as_str()),
        }
    }
}

/// How many failures a subject may have, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// Whose.
    pub subject: Subject,
    /// The failure that locks it.
    pub failures: u32,
    /// After how long without one failures are forgotten.
    pub window: Duration,
    /// How long the first lock lasts; each further one twice as long.
    pub lock: Duration,
    /// The longest lock.
    pub max_lock: Duration,
    /// For how long after the end of a lock it is remembered.
    pub remembered: Duration,
}

/// Whether an attempt may be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It may, and counts until its end is told.
    Admitted,
    /// It may not.
    Refused {
        /// Which subject is in the way.
        subject: Subject,
        /// Until when it is locked; `None` where other attempts that run take the rest.
        until: Option<Timestamp>,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The guess was wrong, or nobody knows.
    Failed,
    /// Nobody has judged it, or it proved only a part.
    GivenBack,
    /// The person is who they say.
    Succeeded,
}

/// A subject after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Until when it is locked, where this attempt locked it.
    pub locked_until: Option<Timestamp>,
    /// The locks that are remembered of it.
    pub lockouts: u32,
}

/// A lock that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockout {
    /// Whose.
    pub subject: Subject,
    /// Until when.
    pub until: Timestamp,
}

/// Where failures are counted. See the module's text for the laws.
#[async_trait]
pub trait Lockouts: fmt::Debug + Send + Sync {
    /// Reserves an attempt under every bar, or under none: one decision. A lock is never shortened by what comes later.
    async fn begin(&self, id: Uuid, bars: &[Bar], now: Timestamp) -> Result<Begun, StoreError>;

    /// Ends an attempt under these bars, in their order. A failure counts once, and only of an attempt that is reserved; a
    /// success takes the failures from every subject that is one person's, and no lock from any.
    async fn end(&self, id: Uuid, bars: &[Bar], how: How, now: Timestamp) -> Result<Vec<After>, StoreError>;

    /// Remembers until `until` that the person of a name has signed in from a place.
    async fn remember_place(&self, name: &LoginName, place: &Place, now: Timestamp, until: Timestamp) -> Result<(), StoreError>;

    /// Whether that is remembered.
    async fn knows_place(&self, name: &LoginName, place: &Place, now: Timestamp) -> Result<bool, StoreError>;

    /// Forgets the failures and locks of a subject; of a name also those at the places that are known of it. Answers whether
    /// there were any.
    async fn open(&self, subject: &Subject) -> Result<bool, StoreError>;

    /// The locks that last, in the order they end.
    async fn locked(&self, now: Timestamp) -> Result<Vec<Lockout>, StoreError>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(typed: &str) -> Option<String> {
        LoginName::of(typed).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn a_name_in_every_clothing() {
        for typed in [
            "ann@acme.test",
            "Ann@ACME.test",
            "  ann@acme.test\t",
            "\u{feff}ann@acme.test\u{a0}",
            "ann\u{200b}@acme.test",
            "a\u{ad}nn@acme.test",
            "\u{ff21}nn@acme.test",
            "ann\u{ff20}acme.test",
            "ann@acme.test\0",
            "ann\u{fe0f}@acme.test",
        ] {
            assert_eq!(name(typed).as_deref(), Some("ann@acme.test"), "{typed:?}");
        }
        assert_eq!(name("ACME\\ann").as_deref(), Some("acme\\ann"));
        assert_eq!(name("Ann   Lee"), name("ann lee"));
        assert_eq!(name("jose\u{301}"), name("JOS\u{c9}"));
        assert_eq!(name("\u{212a}im"), name("kim"), "the Kelvin sign");
        assert_eq!(name("\u{3a3}\u{3af}\u{3c2}"), name("\u{3c3}\u{38a}\u{3a3}"), "the sigma at the end of a word");
        assert_ne!(name("ann@acme.test"), name("an@acme.test"));
        for nothing in ["", "  ", "\u{200b}", "\n"] {
            assert_eq!(name(nothing), None, "{nothing:?}");
        }
        assert!(name(&"a".repeat(300)).is_some_and(|name| name.starts_with("sha256:")));
    }

    #[test]
    fn places() {
        let place = |address: &str| Place::read(address).map(|place| place.as_str().to_owned());
        assert_eq!(place("203.0.113.7").as_deref(), Some("203.0.113.7"));
        assert_eq!(place("::ffff:203.0.113.7").as_deref(), Some("203.0.113.7"));
        assert_eq!(place("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1:2::/64"));
        assert_eq!(place("2001:db8:1:2::/64"), place("2001:db8:1:2:ffff::1"));
        assert_ne!(place("2001:db8:1:2::1"), place("2001:db8:1:3::1"));
        assert_eq!(place("ann"), None);
    }

    proptest! {
        #[test]
        fn reading_a_name_again_changes_nothing(typed in "\\PC{0,80}") {
            if let Some(name) = LoginName::of(&typed) {
                prop_assert_eq!(LoginName::of(name.as_str()), Some(name.clone()));
                let place = Place::of(IpAddr::from([203, 0, 113, 7]));
                for subject in [Subject::Name(name.clone()), Subject::NameAt(name, place.clone()), Subject::Address(place)] {
                    prop_assert_eq!(Subject::read(&subject.to_string()), Some(subject));
                }
            }
        }

        #[test]
        fn case_is_no_other_name(typed in "[a-zA-Z0-9@. \u{e9}\u{c9}\u{3a3}]{1,40}") {
            prop_assert_eq!(LoginName::of(&typed.to_lowercase()), LoginName::of(&typed));
        }
    }
}
