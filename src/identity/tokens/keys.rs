//! Keys, each good for one algorithm.

use std::num::NonZeroUsize;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::crypto::{aws_lc, verify};
use jsonwebtoken::{Algorithm as Alg, DecodingKey};
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::compact::Compact;

/// How many signatures are remembered: 100 bytes and some each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// The least and the largest size of an RSA key, in bits (RFC 7518 3.3; the largest is the library's).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What is said of an RSA key below the least size.
pub(super) const FEWER_BITS: &str = "it has fewer than 2048 bits";

/// How an issuer signs. The configuration names it, never the token (RFC 8725 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256 and a shared secret.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA (PKCS #1 1.5) with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Its name in headers, keys and the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn library(self) -> Alg {
        match self {
            Self::Hs256 => Alg::HS256,
            Self::Rs256 => Alg::RS256,
            Self::Es256 => Alg::ES256,
            Self::EdDsa => Alg::EdDSA,
        }
    }
}

/// A key and the one algorithm it is used with.
pub(super) struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
    /// The same for two keys that are one: whoever holds one can sign as the other.
    print: [u8; 32],
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "VerifyingKey({})", self.algorithm.as_str())
    }
}

impl VerifyingKey {
    fn new(algorithm: Algorithm, key: DecodingKey, material: &[u8]) -> Self {
        let print = Sha256::new().chain_update(algorithm.as_str()).chain_update(material).finalize().into();
        Self { algorithm, key, print }
    }

    /// A shared secret. HMAC hashes a long secret and pads a short one with zeros (RFC 2104 2), so that two secrets can be
    /// one key.
    pub(super) fn hs256(secret: &[u8]) -> Self {
        let mut block = if secret.len() > 64 { Sha256::digest(secret).to_vec() } else { secret.to_vec() };
        block.resize(64, 0);
        Self::new(Algorithm::Hs256, DecodingKey::from_secret(secret), &block)
    }

    /// A public key in PEM for the one of these algorithms that it fits, or what is wrong with it.
    pub(super) fn pem(pem: &str, algorithms: &[Algorithm]) -> Result<Self, &'static str> {
        let label = pem.trim_start();
        if !label.starts_with("-----BEGIN PUBLIC KEY-----") && !label.starts_with("-----BEGIN RSA PUBLIC KEY-----") {
            return Err("it does not begin as a PEM public key");
        }
        let mut errors = Vec::new();
        for algorithm in algorithms {
            match Self::pem_for(pem.as_bytes(), *algorithm) {
                Ok(key) => return Ok(key),
                Err(error) => errors.push(error),
            }
        }
        match errors[..] {
            [only] => Err(only),
            _ if errors.contains(&FEWER_BITS) => Err(FEWER_BITS),
            _ => Err("it is no public key for the issuer's algorithms"),
        }
    }

    fn pem_for(pem: &[u8], algorithm: Algorithm) -> Result<Self, &'static str> {
        const NOT_RSA: &str = "it is no RSA public key";
        match algorithm {
            Algorithm::Hs256 => Err("HS256 has no public key"),
            Algorithm::Rs256 => {
                let key = DecodingKey::from_rsa_pem(pem).map_err(|_| NOT_RSA)?;
                let der = key.try_get_as_bytes().map_err(|_| NOT_RSA)?;
                let read_components = aws_lc::DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
                let (modulus, exponent) = read_components(der).map_err(|_| NOT_RSA)?;
                Self::rsa(&modulus, &exponent)
            }
            Algorithm::Es256 => {
                let key = DecodingKey::from_ec_pem(pem).map_err(|_| NOT_P256)?;
                Self::p256(key.try_get_as_bytes().map_err(|_| NOT_P256)?)
            }
            Algorithm::EdDsa => {
                let key = DecodingKey::from_ed_pem(pem).map_err(|_| NOT_ED25519)?;
                Self::ed25519(key.try_get_as_bytes().map_err(|_| NOT_ED25519)?)
            }
        }
    }

    /// An RSA key of this modulus and exponent.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, &'static str> {
        let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if bits < *RSA_BITS.start() {
            return Err(FEWER_BITS);
        }
        if bits > *RSA_BITS.end() {
            return Err("it has more than 8192 bits");
        }
        // With the exponent 1 everything is its own signature.
        let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        if !odd(modulus) || !odd(exponent) || matches!(exponent, [1]) || exponent.len() > 4 {
            return Err("it is no RSA public key");
        }
        let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Ok(Self::new(Algorithm::Rs256, key, &[modulus, b"/", exponent].concat()))
    }

    /// A point on P-256, uncompressed.
    pub(super) fn p256(point: &[u8]) -> Result<Self, &'static str> {
        if point.len() != 65 || ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_err() {
            return Err(NOT_P256);
        }
        Ok(Self::new(Algorithm::Es256, DecodingKey::from_ec_der(point), point))
    }

    /// An Ed25519 public key.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() != 32 || ParsedPublicKey::new(&ED25519, bytes).is_err() {
            return Err(NOT_ED25519);
        }
        Ok(Self::new(Algorithm::EdDsa, DecodingKey::from_ed_der(bytes), bytes))
    }

    /// Whether whoever holds this key can sign as the other.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.print == other.print
    }

    /// Whether the token says that it is signed with this key's algorithm.
    pub(super) fn is_for(&self, token: &Compact<'_>) -> bool {
        token.algorithm() == self.algorithm.as_str()
    }

    /// Whether this key made the token's signature, in this key's algorithm. Secrets are compared in constant time.
    pub(super) fn verifies(&self, token: &Compact<'_>) -> bool {
        verify(token.signature, token.message, &self.key, self.algorithm.library()).unwrap_or(false)
    }
}

const NOT_P256: &str = "it is no P-256 public key";
const NOT_ED25519: &str = "it is no Ed25519 public key";

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Signatures that were found good, by the SHA-256 of the token and the key that made them. Only the signature is
/// remembered, and it counts only while its key does: everything else about a token is judged anew each time. Checking the
/// signature of a public key costs ten times as much as looking it up; an HMAC costs about the same, and is not remembered.
#[derive(Debug)]
pub(super) struct KnownSignatures(Mutex<LruCache<[u8; 32], [u8; 32]>>);

impl Default for KnownSignatures {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }
}

impl KnownSignatures {
    /// Whether one of these keys made the token's signature. Keys of other algorithms than the token's are passed over.
    pub(super) fn verifies<'k>(&self, keys: impl Iterator<Item = &'k VerifyingKey> + Clone, token: &Compact<'_>) -> bool {
        let mut keys = keys.filter(|key| key.is_for(token));
        if token.algorithm() == Algorithm::Hs256.as_str() {
            return keys.any(|key| key.verifies(token));
        }
        let digest: [u8; 32] = Sha256::digest(token.text.as_bytes()).into();
        let known = self.0.lock().get(&digest).copied();
        if known.is_some_and(|known| keys.clone().any(|key| key.print == known)) {
            return true;
        }
        let Some(key) = keys.find(|key| key.verifies(token)) else { return false };
        self.0.lock().put(digest, key.print);
        true
    }
}
