//! Addresses of Redis and PostgreSQL, taken apart only as far as checking and showing them needs: their clients read
//! the rest, and much is allowed in there.

/// An address behind its scheme.
pub(super) struct Server<'a> {
    /// Host and port as written, without user and password; may be empty for PostgreSQL's sockets.
    pub host: &'a str,
    /// What follows the host: a path and a query.
    pub rest: &'a str,
}

/// Takes `[user[:password]@]host[:port][/path][?query]` apart, or says why it names no server.
pub(super) fn server_of(text: &str) -> Result<Server<'_>, &'static str> {
    let server = split(text);
    let port = match server.host.rsplit_once(']') {
        Some((_, after)) => after.strip_prefix(':').or(if after.is_empty() { None } else { Some("") }),
        None => server.host.rsplit_once(':').map(|(_, port)| port),
    };
    let named = !server.host.is_empty() && !server.host.starts_with(':') && !server.host.contains(char::is_whitespace);
    match port {
        _ if !named => Err("names no server"),
        Some(port) if port.parse::<u16>().is_err() => Err("the port is no number up to 65535"),
        _ => Ok(server),
    }
}

/// Splits without judging.
pub(super) fn split(text: &str) -> Server<'_> {
    let end = text.find(['/', '?']).unwrap_or(text.len());
    // An unescaped `/` or `?` in a password would end the host too early; it is not allowed there, and shows as no host.
    let (authority, rest) = text.split_at(end);
    Server { host: authority.rsplit_once('@').map_or(authority, |(_, host)| host), rest }
}

/// Host and port of a whole address, for people; nothing of the user and the password.
pub(super) fn host_of(url: &str) -> &str {
    url.split_once("://").map_or("", |(_, rest)| split(rest).host)
}
