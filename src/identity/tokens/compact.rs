//! The compact form of a token (RFC 7515 7.1): three parts of base64url with dots between, and nothing else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::TokenError;
use super::json::{self, Presence, given};

/// The longest token that is looked at, in bytes. LibreChat's are 250; Node refuses headers of 16 KiB in all.
const LONGEST: usize = 16 * 1024;

/// A token taken apart. Nothing in it is proved.
pub(super) struct Compact<'t> {
    /// The token as it came.
    pub(super) text: &'t str,
    /// The header and payload parts with the dot between: what is signed.
    pub(super) message: &'t [u8],
    /// The signature part, still encoded.
    pub(super) signature: &'t str,
    header: Header,
    payload: String,
}

/// What the `typ` of a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typ {
    /// An ordinary token, or nothing said.
    Jwt,
    /// An OAuth access token (RFC 9068 2.1).
    AccessToken,
    /// Something else, such as a logout token or a proof of possession: no credential (RFC 8725 3.11).
    Other,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default, deserialize_with = "given")]
    kid: Option<String>,
    #[serde(default)]
    crit: Presence,
}

impl<'t> Compact<'t> {
    /// Takes a token apart.
    pub(super) fn read(text: &'t str) -> Result<Self, TokenError> {
        if text.len() > LONGEST {
            return Err(TokenError::BadShape);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(TokenError::BadShape)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::BadShape)?;
        let header: Header = json::object(&decode(header)?)?;
        // A critical extension must be understood (RFC 7515 4.1.11), and we understand none.
        if header.crit.is_present() {
            return Err(TokenError::BadShape);
        }
        Ok(Self { text, message: message.as_bytes(), signature, header, payload: decode(payload)? })
    }

    /// What the header calls its algorithm: only to be compared with the one that the configuration asks for.
    pub(super) fn algorithm(&self) -> &str {
        &self.header.alg
    }

    /// What the header calls its key: only to be compared with the names of the keys that an issuer publishes.
    pub(super) fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// What the header says the token is.
    pub(super) fn typ(&self) -> Typ {
        let Some(typ) = self.header.typ.as_deref() else { return Typ::Jwt };
        let is = |name: &str| typ.eq_ignore_ascii_case(name);
        if is("JWT") || is("application/jwt") {
            Typ::Jwt
        } else if is("at+jwt") || is("application/at+jwt") {
            Typ::AccessToken
        } else {
            Typ::Other
        }
    }

    /// The payload's claims. A claim that stands twice is refused, as are claims that are not an object.
    pub(super) fn claims<'a, T: Deserialize<'a>>(&'a self) -> Result<T, TokenError> {
        json::object(&self.payload)
    }

    /// Everything the payload says. A claim that stands twice is refused, wherever it stands.
    pub(super) fn everything(&self) -> Result<Map<String, Value>, TokenError> {
        json::tree(&self.payload)
    }
}

fn decode(part: &str) -> Result<String, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::BadShape)?;
    String::from_utf8(bytes).map_err(|_| TokenError::BadShape)
}
