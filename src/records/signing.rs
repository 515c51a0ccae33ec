//! Signatures of checkpoints and anchors: Ed25519 (RFC 8032), so that whoever verifies need not be able to sign.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::chain::hex;

/// What stands before the 32 bytes of an Ed25519 key in a public key's DER (RFC 8410, 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no PEM of an Ed25519 private key.
    #[error("it is no Ed25519 private key in PEM, as `openssl genpkey -algorithm ed25519` writes it")]
    NoPrivateKey,
    /// The machine gives no randomness.
    #[error("the machine gives no random bytes")]
    NoRandomness,
}

/// The key that signs.
pub struct Signer(Ed25519KeyPair);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public().id())
    }
}

impl Signer {
    /// Makes a key; its PEM (PKCS #8) is to be kept.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::NoRandomness)?;
        let der = pair.to_pkcs8v1().map_err(|_| KeyError::NoRandomness)?;
        Ok((Self(pair), pem("PRIVATE KEY", der.as_ref())))
    }

    /// Reads a key from its PEM (PKCS #8).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let body = text.split_once("-----BEGIN PRIVATE KEY-----").and_then(|(_, rest)| rest.split_once("-----END PRIVATE KEY-----"));
        let body: String = body.ok_or(KeyError::NoPrivateKey)?.0.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::NoPrivateKey)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(Self).map_err(|_| KeyError::NoPrivateKey)
    }

    /// Signs a text; the signature in base64.
    pub fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.0.sign(text.as_bytes()))
    }

    /// What its signatures are verified with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }
}

/// What signatures are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Whether this signature is of this text and this key.
    pub fn verifies(&self, text: &str, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        STANDARD.decode(signature).is_ok_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
    }

    /// A short name: the beginning of the key's SHA-256.
    pub fn id(&self) -> String {
        hex(&digest::digest(&digest::SHA256, &self.0).as_ref()[..8])
    }

    /// As OpenSSL reads it.
    pub fn pem(&self) -> String {
        pem("PUBLIC KEY", &[&SPKI[..], &self.0].concat())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    // The keys here fit in one or two lines of the 64 letters that PEM has.
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        let (signer, pem) = Signer::generate().expect("a key");
        let again = Signer::from_pem(&pem).expect("the PEM that was just written");
        assert_eq!(again.public(), signer.public());
        let signature = again.sign("a text");
        assert!(signer.public().verifies("a text", &signature));
        assert!(!signer.public().verifies("a texT", &signature));
        let (other, _) = Signer::generate().expect("a key");
        assert!(!other.public().verifies("a text", &signature));
        for wrong in ["", "?", "AAAA", &"A".repeat(88)] {
            assert!(!signer.public().verifies("a text", wrong), "{wrong:?}");
        }
    }

    /// The first test vector of RFC 8032, 7.1.
    #[test]
    fn keys_and_signatures_are_those_of_the_standard() {
        let pem =
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let signer = Signer::from_pem(pem).expect("a key of OpenSSL's form");
        assert_eq!(signer.sign(""), "5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlUUFDjnoQCw==");
        let public = signer.public().pem();
        assert!(public.contains("MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), "{public}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for wrong in [
            "",
            "-----BEGIN PRIVATE KEY-----\n?\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        ] {
            assert_eq!(Signer::from_pem(wrong).expect_err("no key"), KeyError::NoPrivateKey);
        }
    }
}
