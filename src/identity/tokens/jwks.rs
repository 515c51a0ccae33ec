//! Key sets as issuers publish them (RFC 7517 5), read so that only what may verify our tokens is left.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Presence, given};
use super::keys::{Algorithm, VerifyingKey};

/// How many keys of a set are kept; issuers publish two or three.
pub(super) const MOST_KEYS: usize = 100;

/// The longest `kid`, in bytes.
const LONGEST_KID: usize = 256;

/// How many keys are tried for one token: as many as share its `kid`, or all of its algorithm where it names none.
const TRIED: usize = 4;

/// The keys of a set that can be used, at most [`MOST_KEYS`].
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Vec<(Option<String>, VerifyingKey)>,
    /// How many keys were passed over.
    pub(super) unusable: usize,
}

impl Keys {
    /// Reads a set for an issuer with these algorithms. A key is passed over that is malformed, private, symmetric, too small,
    /// of another algorithm or for another use. `None` when this is no set at all.
    pub(super) fn read(text: &str, algorithms: &[Algorithm]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let set: Set<'_> = serde_json::from_str(text).ok()?;
        let mut keys = Self::default();
        for key in set.keys {
            match serde_json::from_str::<Jwk>(key.get()).ok().and_then(|key| key.ready(algorithms)) {
                Some(key) if keys.keys.len() < MOST_KEYS => keys.keys.push(key),
                _ => keys.unusable += 1,
            }
        }
        Some(keys)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is a key of this name.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|(name, _)| name.as_deref() == Some(kid))
    }

    /// The keys that may have signed a token that names this key. One that names none is tried with every key of its
    /// algorithm, as long as these are few.
    pub(super) fn for_token<'k>(&'k self, kid: Option<&'k str>, algorithm: &'k str) -> impl Iterator<Item = &'k VerifyingKey> + Clone {
        let of_algorithm = self.keys.iter().filter(move |(_, key)| key.algorithm.as_str() == algorithm);
        let named = of_algorithm.filter(move |(name, _)| kid.is_none() || name.as_deref() == kid);
        let few = named.clone().nth(TRIED).is_none();
        named.filter(move |_| few).map(|(_, key)| key)
    }
}

/// One key as it is published. The members of private and symmetric keys are looked for only to pass them over.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default, deserialize_with = "given")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "given")]
    alg: Option<String>,
    #[serde(default, rename = "use", deserialize_with = "given")]
    usage: Option<String>,
    #[serde(default, deserialize_with = "given")]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    d: Presence,
    #[serde(default)]
    k: Presence,
}

impl Jwk {
    /// The key and its name, where it may verify tokens of one of these algorithms.
    fn ready(self, algorithms: &[Algorithm]) -> Option<(Option<String>, VerifyingKey)> {
        let verifies = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let named = self.kid.as_ref().is_none_or(|kid| !kid.is_empty() && kid.len() <= LONGEST_KID);
        // Whoever publishes a private key has given it away.
        if !verifies || !named || self.d.is_present() || self.k.is_present() {
            return None;
        }
        let bytes = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_deref()?).ok();
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => VerifyingKey::rsa(&bytes(&self.n)?, &bytes(&self.e)?).ok()?,
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                // Of two halves of other lengths the point would be another one.
                (x.len() == 32 && y.len() == 32).then_some(())?;
                VerifyingKey::p256(&[&[4], &*x, &*y].concat()).ok()?
            }
            ("OKP", Some("Ed25519")) => VerifyingKey::ed25519(&bytes(&self.x)?).ok()?,
            _ => return None,
        };
        let wanted = algorithms.contains(&key.algorithm) && self.alg.as_deref().is_none_or(|alg| alg == key.algorithm.as_str());
        wanted.then_some((self.kid, key))
    }
}
