//! The parts of a URL, each bounded and decoded to bytes.

use crate::args::Durability;
use crate::error::{Failure, Outcome};
use crate::wire::percent_decode;
use axum::http::Uri;
use std::str::FromStr;

/// Parameters at most.
const PARAMETERS_MAX: usize = 16;

/// What stands behind the question mark.
pub(super) struct Query {
    parameters: Vec<(String, Vec<u8>)>,
}

impl Query {
    /// The parameters of `uri`, each of `known` at most once.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Outcome<Query> {
        let mut parameters: Vec<(String, Vec<u8>)> = Vec::new();
        for part in uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = percent_decode(value).ok_or_else(not_encoded)?;
            if !known.contains(&name) {
                let message = match known {
                    [] => "the query has a parameter, and none is taken here".to_owned(),
                    known => {
                        format!("the query has a parameter that is none of: {}", known.join(", "))
                    }
                };
                return Err(Failure::input(message));
            }
            if parameters.len() == PARAMETERS_MAX || parameters.iter().any(|(had, _)| had == name) {
                return Err(Failure::input(format!("the query has two parameters `{name}`")));
            }
            parameters.push((name.to_owned(), value));
        }
        Ok(Query { parameters })
    }

    /// The bytes of a parameter.
    pub(super) fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.parameters.iter().position(|(had, _)| had == name)?;
        Some(self.parameters.swap_remove(at).1)
    }

    /// The text of a parameter.
    pub(super) fn text(&mut self, name: &str) -> Outcome<Option<String>> {
        let text = self.bytes(name).map(String::from_utf8).transpose();
        text.map_err(|_| Failure::input(format!("the parameter `{name}` is not UTF-8")))
    }

    /// A parameter that is a number.
    pub(super) fn number<T: FromStr>(&mut self, name: &str) -> Outcome<Option<T>> {
        let refuse = |_| Failure::input(format!("the parameter `{name}` is not a number in range"));
        self.text(name)?.map(|text| text.parse().map_err(|_| refuse(()))).transpose()
    }

    /// When a commit is acknowledged.
    pub(super) fn durability(&mut self, name: &str) -> Outcome<Option<Durability>> {
        let Some(words) = self.text(name)? else { return Ok(None) };
        let mode = Durability::ALL.into_iter().find(|mode| mode.name() == words);
        let refuse =
            || Failure::input(format!("the parameter `{name}` is sync, periodic or async"));
        mode.ok_or_else(refuse).map(Some)
    }

    /// A parameter that is there or not.
    pub(super) fn is_set(&mut self, name: &str) -> Outcome<bool> {
        match self.text(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => Err(Failure::input(format!("the parameter `{name}` is true or false"))),
        }
    }
}

/// The segment `number` of the path of `uri`, decoded; the first is 0.
pub(super) fn segment(uri: &Uri, number: usize) -> Outcome<Vec<u8>> {
    let encoded = uri.path().split('/').nth(number + 1).unwrap_or_default();
    percent_decode(encoded).ok_or_else(not_encoded)
}

/// As [`segment`], as text.
pub(super) fn text_segment(uri: &Uri, number: usize) -> Outcome<String> {
    String::from_utf8(segment(uri, number)?)
        .map_err(|_| Failure::input("a name in the path is not UTF-8"))
}

fn not_encoded() -> Failure {
    Failure::input("the URL has a percent sign without two hexadecimal digits behind it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Outcome<Query> {
        let uri: Uri = format!("/v1/x/%FF%2F?{text}").parse().unwrap();
        Query::of(&uri, &["start", "limit", "reverse"])
    }

    #[test]
    fn parameters_are_bytes_text_numbers_and_flags() {
        let mut all = query("start=%ff+a&limit=7&reverse").unwrap();
        assert_eq!(all.bytes("start").unwrap(), b"\xff+a");
        assert_eq!(all.number::<u64>("limit").unwrap(), Some(7));
        assert!(all.is_set("reverse").unwrap());
        assert!(!query("reverse=false").unwrap().is_set("reverse").unwrap());
        let uri: Uri = "/v1/x/%FF%2F?limit=1".parse().unwrap();
        assert_eq!(segment(&uri, 2).unwrap(), b"\xff/");
        assert!(text_segment(&uri, 2).is_err());
        assert_eq!(text_segment(&uri, 1).unwrap(), "x");
    }

    #[test]
    fn what_is_unknown_doubled_or_malformed_is_refused() {
        for bad in ["stop=1", "limit=1&limit=2", "start=%f", "start=%zz"] {
            assert!(query(bad).is_err(), "{bad}");
        }
        assert!(query("limit=-1").unwrap().number::<u64>("limit").is_err());
        assert!(query("limit=").unwrap().number::<u64>("limit").is_err());
        assert!(query("start=%ff").unwrap().text("start").is_err());
        assert!(query("reverse=2").unwrap().is_set("reverse").is_err());
    }
}
