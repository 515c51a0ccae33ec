//! Fetching a key set, within bounds: no redirect, no proxy, little time, and no more than a megabyte.

use std::time::Duration;

use futures_util::StreamExt as _;

/// The largest key set that is read, in bytes. Those of large issuers have 20 KB.
pub(super) const MOST_BYTES: usize = 1024 * 1024;

/// How long the whole fetch may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a key set could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It cannot be asked, or broke off.
    #[error("{0}")]
    Away(String),
    /// It refused, or redirects.
    #[error("it answers {0}, and only 200 is taken: redirects are not followed")]
    Status(u16),
    /// It sent more than is read.
    #[error("it answers with more than 1 MB")]
    TooLong,
    /// It sent something else.
    #[error("it answers with no key set: JSON with a list of keys was expected")]
    NoKeySet,
}

/// Fetches the text of the key set at this address. The connection is made for this once, since the next time is minutes
/// away, and with the certificates that the system trusts then.
pub(super) async fn text(url: &str) -> Result<String, FetchError> {
    let client = reqwest::Client::builder()
        .https_only(url.starts_with("https://"))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")));
    // The system's certificates are read, and must be there, only where they are needed.
    let client = if url.starts_with("https://") { client } else { client.tls_certs_only([]) };
    let away = |error: reqwest::Error| FetchError::Away(cause(&error));
    let response = client.build().map_err(away)?.get(url).header("accept", "application/json").send().await.map_err(away)?;
    if response.status() != 200 {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(away)?);
        if body.len() > MOST_BYTES {
            return Err(FetchError::TooLong);
        }
    }
    String::from_utf8(body).map_err(|_| FetchError::NoKeySet)
}

/// The innermost cause, which says what a person can mend.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut source: &dyn std::error::Error = error;
    while let Some(cause) = source.source() {
        source = cause;
    }
    source.to_string()
}
