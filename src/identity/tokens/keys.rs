//! Keys, each good for one algorithm.

use std::num::NonZeroUsize;

use jsonwebtoken::crypto::{aws_lc, verify};
use jsonwebtoken::{Algorithm, DecodingKey};
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::compact::Compact;

/// How many RSA signatures are remembered: 40 bytes and some each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// The least size of an RSA key, in bits (RFC 7518 3.3).
const LEAST_RSA_BITS: usize = 2048;

/// A key and the one algorithm it is used with.
pub(super) struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "VerifyingKey({:?})", self.algorithm)
    }
}

impl VerifyingKey {
    /// A shared secret.
    pub(super) fn hs256(secret: &[u8]) -> Self {
        Self { algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) }
    }

    /// An RSA public key in PEM, or what is wrong with it.
    pub(super) fn rs256(pem: &[u8]) -> Result<Self, &'static str> {
        let label = std::str::from_utf8(pem).unwrap_or_default().trim_start();
        if !label.starts_with("-----BEGIN PUBLIC KEY-----") && !label.starts_with("-----BEGIN RSA PUBLIC KEY-----") {
            return Err("it does not begin as a PEM public key");
        }
        let key = DecodingKey::from_rsa_pem(pem).map_err(|_| "it is no RSA public key")?;
        let der = key.try_get_as_bytes().map_err(|_| "it is no RSA public key")?;
        let read_components = aws_lc::DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
        let (modulus, _) = read_components(der).map_err(|_| "it is no RSA public key")?;
        if modulus.len() * 8 < LEAST_RSA_BITS {
            return Err("it has fewer than 2048 bits");
        }
        Ok(Self { algorithm: Algorithm::RS256, key })
    }

    /// Whether whoever holds this key can sign as the other.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let material = |key: &Self| key.key.try_get_as_bytes().map(|bytes| key.material(bytes)).ok();
        self.algorithm == other.algorithm && material(self) == material(other)
    }

    /// What the algorithm makes of the key's bytes. HMAC hashes a long secret and pads a short one with zeros (RFC 2104 2),
    /// so that two secrets can be one key.
    fn material(&self, bytes: &[u8]) -> Vec<u8> {
        if self.algorithm != Algorithm::HS256 {
            return bytes.to_vec();
        }
        let mut block = if bytes.len() > 64 { Sha256::digest(bytes).to_vec() } else { bytes.to_vec() };
        block.resize(64, 0);
        block
    }

    /// Whether the token says that it is signed with this key's algorithm.
    pub(super) fn is_for(&self, token: &Compact<'_>) -> bool {
        match self.algorithm {
            Algorithm::HS256 => token.algorithm() == "HS256",
            Algorithm::RS256 => token.algorithm() == "RS256",
            _ => false,
        }
    }

    /// Whether this key made the token's signature, in this key's algorithm. Secrets are compared in constant time.
    pub(super) fn verifies(&self, token: &Compact<'_>) -> bool {
        verify(token.signature, token.message, &self.key, self.algorithm).unwrap_or(false)
    }
}

/// Signatures that were found good, by the SHA-256 of the token and the position of the issuer. Only the signature is
/// remembered: everything else about a token is judged anew each time. Checking an RSA signature costs ten times as much
/// as looking it up; an HMAC costs about the same, and is not remembered.
#[derive(Debug)]
pub(super) struct KnownSignatures(Mutex<LruCache<[u8; 32], usize>>);

impl Default for KnownSignatures {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }
}

impl KnownSignatures {
    /// Whether the key of the issuer at this position made the token's signature.
    pub(super) fn verifies(&self, issuer: usize, key: &VerifyingKey, token: &Compact<'_>) -> bool {
        if key.algorithm == Algorithm::HS256 {
            return key.verifies(token);
        }
        let digest: [u8; 32] = Sha256::digest(token.text.as_bytes()).into();
        if self.0.lock().get(&digest) == Some(&issuer) {
            return true;
        }
        let good = key.verifies(token);
        if good {
            self.0.lock().put(digest, issuer);
        }
        good
    }
}
