//! Stamps as entity tags, and the conditions that requests name with them.
//!
//! ```text
//! ETag: "TICK-NODE-INCARNATION"     each in hexadecimal: 16, 32 and 16 digits
//! If-Match: *                       there is a record
//! If-Match: "..", ".."              its stamp is one of these
//! If-None-Match: *                  there is no record
//! If-None-Match: "..", ".."         its stamp is none of these
//! ```
//!
//! A stamp names one write on all nodes; equal tags mean equal values.

use crate::error::{Failure, Outcome};
use crate::place::Condition;
use crate::replicas::node_of;
use axum::http::HeaderMap;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use base::{Incarnation, Origin, Stamp, Tick};

/// Stamps in one header.
const STAMPS_MAX: usize = 64;

/// `stamp` without quotes.
pub(super) fn tag_of(stamp: Stamp) -> String {
    let Origin { node, incarnation } = stamp.origin;
    format!("{:016x}-{node}-{incarnation}", stamp.tick.raw())
}

/// The stamp that `tag` is, without quotes.
pub(super) fn stamp_of(tag: &str) -> Option<Stamp> {
    let number = |digits: &str| {
        let is_one = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_one.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    let mut parts = tag.split('-');
    let tick = Tick::from_raw(number(parts.next()?)?)?;
    let node = node_of(parts.next()?)?;
    let incarnation = Incarnation(number(parts.next()?)?);
    let is_all = parts.next().is_none();
    is_all.then_some(Stamp { tick, origin: Origin { node, incarnation } })
}

/// What `headers` want to be so.
pub(super) fn condition_of(headers: &HeaderMap) -> Outcome<Condition> {
    match (headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::None),
        (Some(_), Some(_)) => {
            Err(Failure::input("a request has either If-Match or If-None-Match, not both"))
        }
        (Some(value), None) => Ok(match stamps_of(value.as_bytes())? {
            None => Condition::Present,
            Some(stamps) => Condition::Is(stamps),
        }),
        (None, Some(value)) => Ok(match stamps_of(value.as_bytes())? {
            None => Condition::Absent,
            Some(stamps) => Condition::IsNot(stamps),
        }),
    }
}

/// The stamps in a header; none of an asterisk.
fn stamps_of(value: &[u8]) -> Outcome<Option<Vec<Stamp>>> {
    let refuse = || {
        let message = "If-Match and If-None-Match have an asterisk or up to 64 of the tags that a get \
                       answers with, in quotes";
        Failure::input(message)
    };
    let text = std::str::from_utf8(value).map_err(|_| refuse())?.trim();
    if text == "*" {
        return Ok(None);
    }
    let mut stamps = Vec::new();
    for part in text.split(',') {
        let quoted = part.trim().strip_prefix('"').and_then(|part| part.strip_suffix('"'));
        if stamps.len() == STAMPS_MAX {
            return Err(refuse());
        }
        stamps.push(quoted.and_then(stamp_of).ok_or_else(refuse)?);
    }
    Ok(Some(stamps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use base::NodeId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tag_is_read_as_it_is_written(tick in 0..=Tick::MAX.raw(), node: [u8; 16], life: u64) {
            let origin = Origin { node: NodeId(node), incarnation: Incarnation(life) };
            let stamp = Stamp { tick: Tick::from_raw(tick).unwrap(), origin };
            prop_assert_eq!(stamp_of(&tag_of(stamp)), Some(stamp));
        }

        #[test]
        fn whatever_stands_in_a_header_is_read_or_refused(value: Vec<u8>) {
            drop(stamps_of(&value));
        }
    }

    #[test]
    fn headers_become_conditions() {
        let stamp = Stamp::default();
        let tag = format!("\"{}\"", tag_of(stamp));
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            condition_of(&headers)
        };
        assert_eq!(of("if-match", "*").unwrap(), Condition::Present);
        assert_eq!(of("if-none-match", " * ").unwrap(), Condition::Absent);
        let two = format!("{tag} , {tag}");
        assert_eq!(of("if-match", &two).unwrap(), Condition::Is(vec![stamp, stamp]));
        assert_eq!(of("if-none-match", &tag).unwrap(), Condition::IsNot(vec![stamp]));
        let many = vec![tag.as_str(); 65].join(",");
        for bad in ["", "\"\"", tag.trim_matches('"'), &format!("W/{tag}"), "\"*\"", &many] {
            assert!(of("if-match", bad).is_err(), "{bad}");
        }
    }
}
