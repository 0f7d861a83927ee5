//! Who may ask.
//!
//! With tokens, whoever sends one: `Authorization: Bearer TOKEN`; only whether the node is alive and ready is told
//! to everybody, and the page is shown, which asks for a token itself. Without tokens a node listens on loopback only, and answers whoever is on this machine
//! and is no web page. Of tokens a node knows the Blake3 hash, so a file of settings gives none away.

use super::origin;
use super::refusal::Refusal;
use crate::config::{Config, FILE_TOKEN, token_in, token_of};
use crate::error::{Exit, Failure, Outcome};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What may be asked without a token: nothing of it holds any data.
const OPEN_PATHS: [&str; 3] = ["/health/live", "/health/ready", "/"];
/// Who asks where there are no tokens.
const LOOPBACK: &str = "loopback";
/// Who asks what everybody may.
const ANYBODY: &str = "anybody";

/// Those who may ask.
#[derive(Debug)]
pub(super) struct Callers {
    tokens: Vec<(String, blake3::Hash)>,
}

impl Callers {
    /// Those of `config`.
    pub(super) fn of(config: &Config) -> Outcome<Callers> {
        let listed = config.list("auth.tokens").iter();
        let mut tokens: Vec<_> = listed.filter_map(|words| token_of(words)).collect();
        if let Some(path) = config.text("auth.token_file") {
            let path = Path::new(path);
            let token = token_in(path)?.ok_or_else(|| {
                Failure::new(Exit::Input, "ConfigInvalid", "the file of the token holds none")
                    .at(path)
                    .action("make one with `esker config token`")
            })?;
            tokens.push((FILE_TOKEN.to_owned(), blake3::hash(token.as_bytes())));
        }
        Ok(Callers { tokens })
    }

    /// Whether anybody on this machine may ask, and nobody else should reach it.
    pub(super) fn need_no_token(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Who asks for `path`, by name, if that is allowed.
    pub(super) fn admit(&self, path: &str, headers: &HeaderMap) -> Result<&str, Refusal> {
        if self.tokens.is_empty() {
            return origin::check(headers).map(|()| LOOPBACK);
        }
        if OPEN_PATHS.contains(&path) {
            return Ok(ANYBODY);
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = token.ok_or_else(|| Refusal::unauthenticated("the request has no token"))?;
        let hash = blake3::hash(token.as_bytes());
        // Hashes are compared in constant time.
        let known = self.tokens.iter().find(|(_, known)| *known == hash);
        let refuse = || Refusal::unauthenticated("the token of the request is not known here");
        known.map(|(name, _)| name.as_str()).ok_or_else(refuse)
    }
}

/// How often strangers are told of.
const STRANGERS_EVERY: Duration = Duration::from_secs(10);

/// Strangers that were refused. They are told of now and then and not one by one: whoever is let in nowhere
/// should not be able to fill a log.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Those who were not told of yet, and when that was done last.
    waiting: Mutex<(u64, Option<Duration>)>,
}

impl Strangers {
    /// One more was refused at `now`, a reading of the monotonic clock. How many to tell of, if it is time to.
    pub(super) fn refused(&self, now: Duration) -> Option<u64> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, told) = &mut *waiting;
        *count += 1;
        if told.is_some_and(|told| now.saturating_sub(told) < STRANGERS_EVERY) {
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::http::header::HOST;

    fn callers(names: &[&str]) -> Callers {
        let token = |name: &&str| {
            let token = format!("{name}-{name}-{name}-{name}");
            ((*name).to_owned(), blake3::hash(token.as_bytes()))
        };
        Callers { tokens: names.iter().map(token).collect() }
    }

    fn asked(callers: &Callers, path: &str, sent: Option<&'static str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("node.example:8080"));
        sent.map(|sent| headers.insert(AUTHORIZATION, HeaderValue::from_static(sent)));
        callers.admit(path, &headers).ok().map(str::to_owned)
    }

    #[test]
    fn who_has_a_token_is_let_in_by_its_name() {
        let callers = callers(&["ada", "bob"]);
        for sent in ["Bearer bob-bob-bob-bob", "bearer  bob-bob-bob-bob"] {
            assert_eq!(asked(&callers, "/v1/stats", Some(sent)).as_deref(), Some("bob"));
        }
        for sent in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer eve-eve-eve-eve"),
            Some("Basic bob-bob-bob-bob"),
            Some("bob-bob-bob-bob"),
        ] {
            assert_eq!(asked(&callers, "/v1/stats", sent), None, "{sent:?}");
        }
    }

    #[test]
    fn probes_are_open_and_nothing_that_looks_like_one() {
        let callers = callers(&["ada"]);
        for path in OPEN_PATHS {
            assert_eq!(asked(&callers, path, None).as_deref(), Some(ANYBODY));
        }
        for path in
            ["/health", "/health/detailed", "/health/live/", "/metrics", "//", "/v1/overview"]
        {
            assert_eq!(asked(&callers, path, None), None, "{path}");
        }
    }

    #[test]
    fn strangers_are_told_of_at_once_and_then_together() {
        let strangers = Strangers::default();
        let after = |seconds| strangers.refused(Duration::from_secs(seconds));
        assert_eq!(after(5), Some(1));
        assert_eq!((after(5), after(14)), (None, None));
        assert_eq!((after(15), after(16)), (Some(3), None));
        assert_eq!(after(1000), Some(2));
    }

    #[test]
    fn without_tokens_a_name_of_this_machine_is_needed() {
        let callers = callers(&[]);
        assert!(callers.need_no_token());
        assert_eq!(asked(&callers, "/health/live", None), None);
    }
}
