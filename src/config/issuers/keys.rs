//! The algorithms and keys of one issuer.

use std::net::IpAddr;
use std::path::Path;

use super::IssuerEntry;
use crate::config::Insecure;
use crate::config::errors::Errors;
use crate::config::secret::resolve_issuer;
use crate::identity::tokens::check_public_key;
use crate::identity::{Algorithm, IssuerKeys, Preset};

const ALLOWED: &str = "allowed: HS256, RS256, ES256, EdDSA";

/// Where the keys come from; exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeysFrom {
    Secret,
    File,
    Url,
}

/// The keys, where nothing is wrong with them.
pub(super) fn check(entry: &IssuerEntry, insecure: &Insecure, at: &str, errors: &mut Errors) -> Option<IssuerKeys> {
    let given = given(entry);
    let algorithms = algorithms(entry, &given, at, errors)?;
    let from = match (&algorithms[..], &given[..]) {
        ([Algorithm::Hs256], _) => KeysFrom::Secret,
        (_, [KeysFrom::Url]) => KeysFrom::Url,
        (_, []) if entry.preset.is_some() => KeysFrom::Url,
        _ => KeysFrom::File,
    };
    if let Some(key) = surplus(entry, from) {
        let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        let names = names.join(", ");
        let message = match from {
            KeysFrom::Secret => format!("{names} has no public key; give secret or secret_file, or choose RS256, ES256 or EdDSA"),
            _ if key.contains("secret") => format!("{names} has no shared secret; give public_key_file or jwks_url, or choose HS256"),
            KeysFrom::File | KeysFrom::Url => "public_key_file and jwks_url exclude each other; keep one of them".to_owned(),
        };
        errors.add(format!("{at}.{key}"), message);
        return None;
    }
    match from {
        KeysFrom::Secret => secrets(entry, at, errors),
        KeysFrom::File => files(entry, algorithms, at, errors),
        KeysFrom::Url => url(entry, algorithms, insecure, at, errors),
    }
}

fn given(entry: &IssuerEntry) -> Vec<KeysFrom> {
    let secret = entry.secret.is_some() || entry.secret_file.is_some();
    let file = entry.public_key_file.is_some();
    let all = [(KeysFrom::Secret, secret), (KeysFrom::File, file), (KeysFrom::Url, entry.jwks_url.is_some())];
    all.into_iter().filter(|(_, given)| *given).map(|(from, _)| from).collect()
}

/// A key of the configuration that does not go with where the keys come from.
fn surplus(entry: &IssuerEntry, from: KeysFrom) -> Option<&'static str> {
    let all = [
        ("public_key_file", KeysFrom::File, entry.public_key_file.is_some()),
        ("second_public_key_file", KeysFrom::File, entry.second_public_key_file.is_some()),
        ("jwks_url", KeysFrom::Url, entry.jwks_url.is_some()),
        ("secret", KeysFrom::Secret, entry.secret.is_some()),
        ("secret_file", KeysFrom::Secret, entry.secret_file.is_some()),
        ("second_secret", KeysFrom::Secret, entry.second_secret.is_some()),
        ("second_secret_file", KeysFrom::Secret, entry.second_secret_file.is_some()),
    ];
    all.into_iter().find(|(_, of, given)| *given && *of != from).map(|(key, ..)| key)
}

fn algorithms(entry: &IssuerEntry, given: &[KeysFrom], at: &str, errors: &mut Errors) -> Option<Vec<Algorithm>> {
    let algorithms = match (entry.algorithm, &entry.algorithms[..]) {
        (Some(_), [_, ..]) => {
            errors.add(format!("{at}.algorithms"), "both algorithm and algorithms are given; keep one of them");
            return None;
        }
        (Some(algorithm), []) => vec![algorithm],
        (None, several @ [_, ..]) => several.to_vec(),
        (None, []) => match (entry.preset, given) {
            (Some(Preset::Supabase), [KeysFrom::Secret]) => vec![Algorithm::Hs256],
            (Some(Preset::Supabase), [] | [KeysFrom::Url]) => vec![Algorithm::Es256, Algorithm::Rs256],
            (Some(_), [] | [KeysFrom::Url]) => vec![Algorithm::Rs256],
            _ => {
                errors.add(format!("{at}.algorithm"), format!("missing; {ALLOWED}"));
                return None;
            }
        },
    };
    if algorithms.len() > 1 && algorithms.contains(&Algorithm::Hs256) {
        let why = "HS256 stands alone, or a public key could be taken for a secret; make two issuers of the same issuer";
        errors.add(format!("{at}.algorithms"), why);
        return None;
    }
    Some(algorithms)
}

fn secrets(entry: &IssuerEntry, at: &str, errors: &mut Errors) -> Option<IssuerKeys> {
    if entry.secret.is_none() && entry.secret_file.is_none() {
        errors.add(format!("{at}.secret"), "missing; HS256 needs secret or secret_file");
        return None;
    }
    let first = resolve_issuer(&format!("{at}.secret"), entry.secret.clone(), entry.secret_file.clone(), errors);
    let second = (entry.second_secret.clone(), entry.second_secret_file.clone());
    let second = resolve_issuer(&format!("{at}.second_secret"), second.0, second.1, errors);
    let bytes = |secret: crate::config::Secret| secret.expose().as_bytes().to_vec();
    Some(IssuerKeys::Secrets(std::iter::once(first?).chain(second).map(bytes).collect()))
}

fn files(entry: &IssuerEntry, algorithms: Vec<Algorithm>, at: &str, errors: &mut Errors) -> Option<IssuerKeys> {
    let Some(first) = &entry.public_key_file else {
        let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        let message = format!("missing; {} needs the file of a public key in PEM form, or jwks_url", names.join(", "));
        errors.add(format!("{at}.public_key_file"), message);
        return None;
    };
    let mut pems = Vec::new();
    for (key, file) in [("public_key_file", Some(first)), ("second_public_key_file", entry.second_public_key_file.as_ref())] {
        let Some(file) = file else { continue };
        match public_key(file, &algorithms) {
            Ok(pem) => pems.push(pem),
            Err(message) => errors.add(format!("{at}.{key}"), message),
        }
    }
    (!pems.is_empty()).then_some(IssuerKeys::Pem(algorithms, pems))
}

fn public_key(file: &Path, algorithms: &[Algorithm]) -> Result<String, String> {
    let name = file.display();
    let pem = std::fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    if pem.contains("PRIVATE KEY") {
        return Err(format!("{name} holds a private key, which must not be here; allowed: the public key alone"));
    }
    match check_public_key(&pem, algorithms) {
        Ok(()) => Ok(pem),
        Err(why) => Err(format!("{name} cannot be used: {why}; allowed: PEM that begins with -----BEGIN PUBLIC KEY-----")),
    }
}

fn url(entry: &IssuerEntry, algorithms: Vec<Algorithm>, insecure: &Insecure, at: &str, errors: &mut Errors) -> Option<IssuerKeys> {
    let usual = entry.preset.zip(entry.issuer.as_deref()).and_then(|(preset, issuer)| published_at(preset, issuer));
    let Some(url) = entry.jwks_url.clone().or(usual) else {
        if entry.issuer.is_some() {
            errors.add(format!("{at}.jwks_url"), "missing; it does not follow from this issuer");
        }
        return None;
    };
    match check_url(&url, insecure) {
        Ok(()) => Some(IssuerKeys::Published(algorithms, url)),
        Err(message) => {
            errors.add(format!("{at}.jwks_url"), message);
            None
        }
    }
}

/// Whether keys may be fetched from there: whoever can change them on the way can sign in as anyone. Errors do not repeat the
/// address, which may hold a password.
fn check_url(text: &str, insecure: &Insecure) -> Result<(), String> {
    const SUCH: &str = "allowed: an address such as https://id.example/.well-known/jwks.json";
    let url = reqwest::Url::parse(text).map_err(|_| format!("is no address; {SUCH}"))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!("a user, a password or a fragment is not possible here; {SUCH}"));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_near = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_near || insecure.keys_over_http => Ok(()),
        "http" => Err("plain http lets anyone on the way sign in as anyone; use https, or set insecure.keys_over_http".to_owned()),
        _ => Err(format!("does not begin with https://; {SUCH}")),
    }
}

/// Where an issuer of a known kind publishes its keys.
fn published_at(preset: Preset, issuer: &str) -> Option<String> {
    let base = issuer.trim_end_matches('/');
    match preset {
        Preset::Supabase | Preset::Auth0 | Preset::Cognito => Some(format!("{base}/.well-known/jwks.json")),
        Preset::Keycloak => Some(format!("{base}/protocol/openid-connect/certs")),
        Preset::Entra => base.strip_suffix("/v2.0").map(|tenant| format!("{tenant}/discovery/v2.0/keys")),
    }
}

/// What the `iss` of such an issuer looks like.
pub(super) fn example(preset: Preset) -> &'static str {
    match preset {
        Preset::Supabase => "https://PROJECT.supabase.co/auth/v1",
        Preset::Auth0 => "https://TENANT.eu.auth0.com/ (with the slash)",
        Preset::Keycloak => "https://id.example/realms/REALM",
        Preset::Entra => "https://login.microsoftonline.com/TENANT-ID/v2.0",
        Preset::Cognito => "https://cognito-idp.REGION.amazonaws.com/POOL-ID",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        let strict = Insecure { short_secrets: false, keys_over_http: false, token_in_url: false };
        let lax = Insecure { keys_over_http: true, ..strict.clone() };
        for (url, over_https, at_all) in [
            ("https://id.example/keys", true, true),
            ("https://id.example:8443/keys?x=1", true, true),
            ("http://localhost:8080/keys", true, true),
            ("http://127.0.0.1/keys", true, true),
            ("http://[::1]:80/keys", true, true),
            ("http://id.example/keys", false, true),
            ("http://localhost.id.example/keys", false, true),
            ("http://127.0.0.1.nip.example/keys", false, true),
            ("https://me:secret@id.example/keys", false, false),
            ("https://id.example/keys#a", false, false),
            ("ftp://id.example/keys", false, false),
            ("file:///etc/passwd", false, false),
            ("id.example/keys", false, false),
            ("", false, false),
        ] {
            assert_eq!(check_url(url, &strict).is_ok(), over_https, "{url}");
            assert_eq!(check_url(url, &lax).is_ok(), at_all, "{url} where plain http is allowed");
        }
    }

    #[test]
    fn where_known_issuers_publish_their_keys() {
        for (preset, issuer, url) in [
            (Preset::Supabase, "https://p.supabase.co/auth/v1", Some("https://p.supabase.co/auth/v1/.well-known/jwks.json")),
            (Preset::Auth0, "https://t.eu.auth0.com/", Some("https://t.eu.auth0.com/.well-known/jwks.json")),
            (Preset::Keycloak, "https://id.example/realms/r", Some("https://id.example/realms/r/protocol/openid-connect/certs")),
            (
                Preset::Entra,
                "https://login.microsoftonline.com/72f9/v2.0",
                Some("https://login.microsoftonline.com/72f9/discovery/v2.0/keys"),
            ),
            (Preset::Entra, "https://sts.windows.net/72f9/", None),
            (
                Preset::Cognito,
                "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_a",
                Some("https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_a/.well-known/jwks.json"),
            ),
        ] {
            assert_eq!(published_at(preset, issuer).as_deref(), url, "{preset:?}");
        }
    }
}
