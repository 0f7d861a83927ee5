//! Keeps web pages out.
//!
//! A node on loopback needs no token, but a browser on the same machine carries out what any page asks
//! of it. Two headers, which pages can not forge, tell: `Origin` names the page that asks, and `Host` the name
//! by which the node was found, also where a page made its own name point to this machine.

use super::refusal::Refusal;
use axum::http::header::{HOST, HeaderMap, ORIGIN};
use std::net::IpAddr;

/// Refuses what a page of another origin asks.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST);
    if host.is_some_and(|host| !is_loopback(host)) {
        return Err(Refusal::foreign("the request is for a host that is not this machine"));
    }
    match (text(ORIGIN), host) {
        (None, _) => Ok(()),
        (Some(origin), Some(host)) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        (Some(_), _) => Err(Refusal::foreign("the request is from a page of another origin")),
    }
}

/// Whether `host`, a name or an address with or without a port, is this machine.
fn is_loopback(host: &str) -> bool {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn is_let_in(host: Option<&'static str>, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        host.map(|host| headers.insert(HOST, HeaderValue::from_static(host)));
        origin.map(|origin| headers.insert(ORIGIN, HeaderValue::from_static(origin)));
        check(&headers).is_ok()
    }

    #[test]
    fn commands_and_the_nodes_own_pages_are_let_in() {
        for host in ["127.0.0.1:8080", "localhost:8080", "LocalHost", "[::1]:80", "127.9.9.9"] {
            assert!(is_let_in(Some(host), None), "{host}");
        }
        assert!(is_let_in(None, None));
        assert!(is_let_in(Some("127.0.0.1:8080"), Some("http://127.0.0.1:8080")));
    }

    #[test]
    fn pages_of_others_and_names_of_others_are_kept_out() {
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", ""]
        {
            assert!(!is_let_in(Some(host), None), "{host}");
        }
        for origin in
            ["http://evil.example", "null", "http://127.0.0.1:80", "https://localhost", ""]
        {
            assert!(!is_let_in(Some("127.0.0.1:8080"), Some(origin)), "{origin}");
        }
        assert!(!is_let_in(None, Some("http://127.0.0.1:8080")));
    }
}
