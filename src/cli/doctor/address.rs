//! The address that people open: whether it leads here, whether there is a way around, and whether LibreChat knows it.

use std::time::Duration;

use serde_json::Value;

use super::finding::Finding;
use crate::config::Upstream;
use crate::librechat::client::LibreChat;

/// How long an address may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The address that people open, without a path.
#[derive(Debug)]
pub(super) struct PublicUrl {
    text: String,
    url: reqwest::Url,
}

impl PublicUrl {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Reads `--url`.
pub(super) fn of(text: &str) -> Result<PublicUrl, String> {
    let url: reqwest::Url = text.parse().map_err(|error| format!("--url {text}: {error}; such as https://chat.example"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("--url {text}: not an address of the web; such as https://chat.example"));
    }
    Ok(PublicUrl { text: text.trim_end_matches('/').to_owned(), url })
}

/// Whether this is the address that people open, its path aside.
pub(super) fn is_same_place(text: &str, url: &PublicUrl) -> bool {
    text.parse::<reqwest::Url>().is_ok_and(|theirs| theirs.origin() == url.url.origin())
}

/// A client that follows nothing and no proxy.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().connect_timeout(PATIENCE).timeout(PATIENCE).no_proxy().redirect(reqwest::redirect::Policy::none()).build()
}

/// Whether LibreChat sends people there.
pub(super) async fn domain(librechat: &LibreChat, url: Option<&PublicUrl>) -> Finding {
    let id = "librechat.domain";
    let domain = match librechat.page_config().await {
        Ok(config) => config.get("serverDomain").and_then(Value::as_str).map(str::to_owned),
        Err(error) => return Finding::fail(id, format!("GET /api/config: {error}"), ""),
    };
    let (Some(domain), Some(url)) = (&domain, url) else {
        let said = domain.map_or_else(|| "LibreChat does not say".to_owned(), |domain| format!("LibreChat sends people to {domain}"));
        return Finding::skipped(id, format!("{said}; give --url, the address that they open"));
    };
    if is_same_place(domain, url) {
        Finding::ok(id, format!("LibreChat sends people to {domain}"))
    } else {
        let said = format!("LibreChat sends people to {domain}, and they open {}", url.as_str());
        Finding::fail(id, said, format!("DOMAIN_CLIENT={0} and DOMAIN_SERVER={0} in LibreChat's .env", url.as_str()))
    }
}

/// Whether Tollgate answers there: LibreChat knows no such path, and shows its page or nothing.
pub(super) async fn leads_here(url: &PublicUrl) -> Finding {
    let id = "address.tollgate";
    let path = format!("{}/api/auth/verify", url.as_str());
    let Ok(client) = client() else { return Finding::skipped(id, "no client can be made") };
    let answer = match client.get(&path).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let change = "what sends people to Tollgate: docs/drop-in.md, 5.";
            return Finding::fail(id, format!("{} does not answer: {}", url.as_str(), error.without_url()), change);
        }
    };
    // Without a token both refuse it where they know it, and only Tollgate does.
    let (status, is_json) = (answer.status().as_u16(), is_json(&answer));
    if status == 401 && is_json {
        return Finding::ok(id, format!("Tollgate answers at {}", url.as_str()));
    }
    if let Some(to) = redirected(&answer) {
        let said = format!("{} redirects to {to}: what answers there was not asked", url.as_str());
        return Finding::warn(id, said, format!("tollgate doctor --url {to}"));
    }
    let said = format!("{} is not answered by Tollgate ({status}): people reach LibreChat without it", url.as_str());
    Finding::fail(id, said, "let what stands there send people to public.listen: docs/drop-in.md, 5.")
}

/// The place that an answer sends on to, where it does.
fn redirected(answer: &reqwest::Response) -> Option<String> {
    let to = answer.headers().get("location").filter(|_| answer.status().is_redirection())?.to_str().ok()?;
    let to = answer.url().join(to).ok()?;
    Some(to.origin().ascii_serialization())
}

fn is_json(answer: &reqwest::Response) -> bool {
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}

/// Whether LibreChat's own port is open at the address that people open.
pub(super) async fn leads_around(url: &PublicUrl, upstream: &Upstream) -> Finding {
    let id = "address.around";
    let port = upstream.port();
    if url.url.port_or_known_default() == Some(port) {
        return Finding::skipped(
            id,
            format!("LibreChat has the port that people open, {port}: whoever else reaches its host is not told from them"),
        );
    }
    let around = format!("http://{}:{port}", url.url.host_str().unwrap_or_default());
    let asked = async {
        let client = client().ok()?;
        let answer = client.get(format!("{around}/api/config")).send().await.ok()?;
        let config: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        config.get("serverDomain")?;
        // Tollgate answers as LibreChat does, but for this.
        let verify = client.get(format!("{around}/api/auth/verify")).send().await.ok()?;
        (verify.status() != 401 || !is_json(&verify)).then_some(())
    };
    if asked.await.is_none() {
        return Finding::ok(id, format!("LibreChat does not answer at {around}"));
    }
    Finding::warn(
        id,
        format!("LibreChat itself answers at {around}: whoever goes there is neither limited nor recorded"),
        "close LibreChat's port to people: HOST=127.0.0.1 in its .env, or no ports of it in its compose file",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_place_whatever_its_path_and_default_port() {
        let url = of("https://chat.example/").unwrap();
        assert_eq!(url.as_str(), "https://chat.example");
        let same =
            ["https://chat.example", "https://chat.example:443/login", "http://chat.example", "https://other.example", "chat.example"];
        assert_eq!(same.map(|text| is_same_place(text, &url)), [true, true, false, false, false]);
        for wrong in ["chat.example", "ftp://chat.example", "https://"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
