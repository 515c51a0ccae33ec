//! `[sign_in]`: signing in through Tollgate, for people of embedding applications.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Insecure;
use super::errors::Errors;
use super::secret::{Secret, resolve};
use crate::identity::sign_in::SignInSettings;
use crate::identity::tokens::LEAST_SECRET;
use crate::identity::web_origin::{OriginUse, WebOrigin};

/// The longest session, in days.
const LONGEST_SESSION: u64 = 90;

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInKeys {
    enabled: bool,
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    session_days: u16,
    token_hours: u16,
    provision: Provision,
    service_email: String,
    public_url: Option<String>,
    hide_login_form: bool,
}

/// Who makes LibreChat accounts.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Provision {
    /// Tollgate, by LibreChat's own registration.
    Register,
    /// Somebody else.
    None,
}

/// Checks the section. Nothing where nobody signs in through Tollgate.
pub(super) fn check(keys: SignInKeys, insecure: &Insecure, errors: &mut Errors) -> Option<SignInSettings> {
    if !keys.enabled {
        return None;
    }
    let given = keys.secret.is_some() || keys.secret_file.is_some();
    let secret = resolve("sign_in.secret", keys.secret, keys.secret_file, errors);
    if !given {
        errors.lacks_secret(
            "sign_in.secret",
            "is needed while sign_in.enabled is true: the passwords of accounts are made from it (openssl rand -hex 32)",
        );
    }
    if secret.as_ref().is_some_and(|secret| secret.expose().len() < LEAST_SECRET) {
        errors.add("sign_in.secret", "is shorter than 32 bytes; make one with openssl rand -hex 32");
    }
    if !(1..=LONGEST_SESSION).contains(&u64::from(keys.session_days)) {
        errors.add("sign_in.session_days", format!("is {}; allowed: 1 to {LONGEST_SESSION}", keys.session_days));
    }
    if keys.token_hours == 0 {
        errors.add("sign_in.token_hours", "is 0; at least 1");
    }
    if !looks_like_an_address(&keys.service_email) {
        errors.add("sign_in.service_email", format!("\"{}\" is no e-mail address that LibreChat would take", keys.service_email));
    }
    let public_url = keys.public_url.filter(|url| !url.is_empty()).and_then(|url| match WebOrigin::read(&url, OriginUse::Reads) {
        Ok(url) => Some(url.to_string()),
        Err(why) => {
            errors.add("sign_in.public_url", why);
            None
        }
    });
    Some(SignInSettings {
        secret: secret?,
        session: Duration::from_hours(24 * u64::from(keys.session_days)),
        oldest_token: Duration::from_hours(u64::from(keys.token_hours)),
        makes_accounts: keys.provision == Provision::Register,
        service_email: keys.service_email.to_lowercase(),
        public_url,
        hides_login_form: keys.hide_login_form,
        token_in_url: insecure.token_in_url,
    })
}

fn looks_like_an_address(text: &str) -> bool {
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
    text.split_once('@').is_some_and(|(local, domain)| is_plain(local) && is_plain(domain) && domain.contains('.'))
}
