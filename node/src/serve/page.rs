//! The page at `/`: how the node is, for people with a browser.
//!
//! It is one file that asks `/v1/overview` and nobody else. It holds no data itself, so it is for everybody who
//! reaches the node; where tokens are needed it asks for one. What it may do is bounded by the headers below:
//! only its own script and style, known by a number drawn for each answer, run in it.

use super::refusal::Refusal;
use crate::error::{Exit, Failure, Outcome};
use axum::body::Body;
use axum::http::Response;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use base::{Error, OsRng, Rng};
use std::fmt::Write;

/// The page.
const PAGE: &str = include_str!("page.html");
/// Where the number of an answer goes in it.
const NONCE: &str = "{nonce}";

/// The page, for whoever asks.
pub(super) async fn page() -> Result<Response<Body>, Refusal> {
    let nonce = nonce()?;
    let policy = policy(&nonce)?;
    let mut response = Response::new(Body::from(PAGE.replace(NONCE, &nonce)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    let fixed: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        // Each answer has a number of its own.
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// What the page may do: nothing, but for its own script and style and questions to its node.
fn policy(nonce: &str) -> Outcome<HeaderValue> {
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    HeaderValue::try_from(policy)
        .map_err(|_| Failure::new(Exit::Bug, "Bug", "the policy of the page is no header"))
}

/// A number that nobody can guess.
fn nonce() -> Outcome<String> {
    let mut bytes = [0; 16];
    OsRng.fill(&mut bytes).map_err(|e| Error::io("draw", "random bytes", e))?;
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
