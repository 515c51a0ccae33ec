//! LibreChat's `.env`: whether it says what LibreChat needs to know behind Tollgate.

use std::collections::HashMap;
use std::path::Path;

use super::address::{PublicUrl, is_same_place};
use super::finding::Finding;
use crate::config::Config;

/// Shorter than this, LibreChat closes connections that Tollgate still wants to use: it lets go of idle ones after 4 s.
const LEAST_KEEP_ALIVE_MS: u64 = 5000;

/// LibreChat's own default.
const LOGIN_MAX: u64 = 7;

/// What an `.env` sets.
#[derive(Debug)]
pub(super) struct Environment(HashMap<String, String>);

impl Environment {
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("--librechat-env {}: {error}", file.display()))?;
        Ok(Self::of(&text))
    }

    /// As Node's dotenv reads it: the last line for a name counts, quotes are taken off, and what follows ` #` is a comment.
    fn of(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let line = line.trim();
            let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
            (!line.starts_with('#')).then(|| (name.trim().to_owned(), unquoted(value.trim()).to_owned()))
        });
        Self(lines.collect())
    }

    /// A value that is set, and not to nothing.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether LibreChat takes it for switched on.
    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Everything that is asked of it.
    pub(super) fn findings(&self, config: &Config, url: Option<&PublicUrl>) -> Vec<Finding> {
        let mut findings = vec![self.secret(config), self.trust_proxy()];
        findings.extend(["DOMAIN_CLIENT", "DOMAIN_SERVER"].map(|name| self.domain(name, url)));
        findings.extend(["LIMIT_MESSAGE_IP", "LIMIT_MESSAGE_USER", "LIMIT_CONCURRENT_MESSAGES"].map(|name| self.limit(name)));
        findings.extend([self.bans(), self.login_max(config), self.keep_alive(), self.openid_tokens()]);
        findings
    }

    fn secret(&self, config: &Config) -> Finding {
        let id = "env.jwt_secret";
        match self.get("JWT_SECRET") {
            Some(theirs) if theirs == config.librechat.jwt_secret.expose() => Finding::ok(id, "JWT_SECRET is librechat.jwt_secret"),
            Some(_) => Finding::fail(
                id,
                "JWT_SECRET is not librechat.jwt_secret: Tollgate takes everybody's token for forged",
                "librechat.jwt_secret (or JWT_SECRET, or jwt_secret_file) of Tollgate: the value of JWT_SECRET in LibreChat's .env",
            ),
            None => Finding::skipped(id, "JWT_SECRET is not set in this file"),
        }
    }

    /// `Number(TRUST_PROXY) || 1`, so that what is no number and 0 are 1.
    fn trust_proxy(&self) -> Finding {
        let id = "env.trust_proxy";
        match self.get("TRUST_PROXY").map(|value| (value, value.parse().unwrap_or(1_u32).max(1))) {
            None | Some((_, 1)) => Finding::ok(id, "LibreChat trusts one proxy, which is Tollgate"),
            Some((value, _)) => Finding::warn(
                id,
                format!("TRUST_PROXY={value}, and Tollgate is the one proxy that LibreChat sees: it tells it the client's address alone"),
                "TRUST_PROXY=1 in LibreChat's .env",
            ),
        }
    }

    fn domain(&self, name: &str, url: Option<&PublicUrl>) -> Finding {
        let id = format!("env.{}", name.to_ascii_lowercase());
        let change = |url: &str| format!("{name}={url} in LibreChat's .env");
        let example = url.map_or("https://the.address.that.people.open", PublicUrl::as_str);
        match (self.get(name), url) {
            (None, _) => Finding::fail(id, format!("{name} is not set: links and sign-in callbacks lead to localhost"), change(example)),
            (Some(set), Some(url)) if !is_same_place(set, url) => {
                Finding::fail(id, format!("{name}={set}, and people open {}", url.as_str()), change(url.as_str()))
            }
            (Some(set), None) if set.contains("://localhost") => Finding::warn(
                id,
                format!("{name}={set}: nobody opens that from another machine (--url says what people open)"),
                change(example),
            ),
            (Some(set), _) => Finding::ok(id, format!("{name}={set}")),
        }
    }

    fn limit(&self, name: &str) -> Finding {
        let id = format!("env.{}", name.to_ascii_lowercase());
        if self.is_on(name) {
            let said = format!("{name}=true: LibreChat refuses by limits of its own, with sentences of its own, beside Tollgate's");
            Finding::warn(id, said, format!("{name}=false in LibreChat's .env"))
        } else {
            Finding::ok(id, format!("{name} is off"))
        }
    }

    /// Bans are of a person and an address, and go by violations of LibreChat's own limits, too.
    fn bans(&self) -> Finding {
        let id = "env.bans";
        let interval = self.number("BAN_INTERVAL").unwrap_or(20);
        if !self.is_on("BAN_VIOLATIONS") {
            return Finding::ok(id, "LibreChat bans nobody");
        }
        if interval < 20 {
            let said =
                format!("LibreChat bans a person and their address for every {interval} points; a program that is no browser costs 20");
            return Finding::warn(id, said, "BAN_INTERVAL=20 in LibreChat's .env");
        }
        Finding::ok(id, format!("LibreChat bans after {interval} points, by the client's address that Tollgate tells it"))
    }

    fn login_max(&self, config: &Config) -> Finding {
        let id = "env.login_max";
        let theirs = self.number("LOGIN_MAX").unwrap_or(LOGIN_MAX);
        match &config.logins {
            Some(logins) if theirs < u64::from(logins.failures) => Finding::warn(
                id,
                format!("LibreChat turns an address away after {theirs} sign-ins, before Tollgate's {} failures", logins.failures),
                format!("LOGIN_MAX={} in LibreChat's .env, or less in [logins] failures", logins.failures + 2),
            ),
            _ => Finding::ok(id, format!("LibreChat turns an address away after {theirs} sign-ins")),
        }
    }

    /// Node takes 0 for never.
    fn keep_alive(&self) -> Finding {
        let id = "env.keep_alive";
        match self.number("HTTP_KEEP_ALIVE_TIMEOUT_MS") {
            Some(set) if set > 0 && set < LEAST_KEEP_ALIVE_MS => Finding::fail(
                id,
                format!("HTTP_KEEP_ALIVE_TIMEOUT_MS={set}: LibreChat closes connections that Tollgate still uses, which shows as 502"),
                format!("HTTP_KEEP_ALIVE_TIMEOUT_MS={LEAST_KEEP_ALIVE_MS} or more in LibreChat's .env"),
            ),
            Some(set) => Finding::ok(id, format!("HTTP_KEEP_ALIVE_TIMEOUT_MS={set}")),
            None => Finding::ok(id, "HTTP_KEEP_ALIVE_TIMEOUT_MS is not set, and Node's default of 5 s is enough"),
        }
    }

    fn openid_tokens(&self) -> Finding {
        let id = "env.openid_reuse_tokens";
        if self.is_on("OPENID_REUSE_TOKENS") {
            let said = "OPENID_REUSE_TOKENS=true: LibreChat's page sends tokens of the identity provider, which Tollgate refuses";
            Finding::fail(id, said, "OPENID_REUSE_TOKENS=false in LibreChat's .env")
        } else {
            Finding::ok(id, "LibreChat's page sends LibreChat's own tokens")
        }
    }
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\'', '`'] {
        if let Some((quoted, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return quoted;
        }
    }
    value.split_once(" #").map_or(value, |(value, _)| value).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_dotenv_reads_them() {
        let text = "# A=0\nA=1\n export B = \"two # three\" # four\nC='x' \nD=five # six\nE=\nF\nA=7\n";
        let read = Environment::of(text);
        let got = ["A", "B", "C", "D", "E", "F"].map(|name| read.get(name).unwrap_or("-"));
        assert_eq!(got, ["7", "two # three", "x", "five", "-", "-"]);
    }
}
