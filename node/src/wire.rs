//! What a node and those who talk to it over HTTP agree on.
//!
//! Bytes travel in a URL percent-encoded, every byte but letters, digits, `-`, `_` and `~`; a plus
//! stands for itself. A key that is too long for a URL travels in the header `esker-key`, in base64, on the
//! path that ends in `record` instead of `records/KEY`. Values are bodies, as they are. Many records are
//! lines as `load` reads them (see `record`), in base64 where escapes would make a line long; a line
//! that ends a stream early holds the failure instead:
//!
//! ```text
//! {"error":{"code":..,"category":..,"message":..,"action":..,"exit":..}}
//! ```

use crate::error::{Failure, Outcome};
use base::limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The header that holds a key too long for a URL.
pub(crate) const KEY_HEADER: &str = "esker-key";
/// How many milliseconds old the newest writes may be that a replica does not show yet.
pub(crate) const MAX_LAG_HEADER: &str = "esker-max-lag-ms";
/// How many deletes of a batch are meant, if they are many.
pub(crate) const DELETES_HEADER: &str = "esker-deletes";
/// What stands in front of the name of a dataset, and of all that is asked of it.
pub(crate) const DATASETS_PATH: &str = "/v1/datasets/";
/// Bytes of an encoded key from which on it travels in the header.
const KEY_IN_URL_LEN_MAX: usize = 16 << 10;
/// Bytes of a URL at most; HTTP libraries take no more.
pub(crate) const URL_LEN_MAX: usize = 65_000;
/// Bytes of a line of records at most.
pub(crate) const LINE_LEN_MAX: usize = (limits::KEY_LEN_MAX + limits::VALUE_LEN_MAX) / 3 * 4
    + (limits::KEYSPACE_NAME_LEN_MAX * 6)
    + 4096;
/// Bytes of an answer that is one JSON object, at most.
pub(crate) const OBJECT_LEN_MAX: usize = 64 << 20;

/// The code of the failure that says a key has no value.
pub(crate) const NO_SUCH_KEY: &str = "NotFound";

/// The code of the failure that says a record is not as a condition wants it.
pub(crate) const STAMP_MISMATCH: &str = "StampMismatch";

/// Where a key travels.
pub(crate) enum KeyPlace {
    /// In the path, which is this.
    Path(String),
    /// In the header, with this value, on this path.
    Header { path: String, value: String },
}

/// Where the key of one record travels.
pub(crate) fn record_path(keyspace: &str, key: &[u8]) -> KeyPlace {
    let keyspace = percent_encode(keyspace.as_bytes());
    let encoded = percent_encode(key);
    if encoded.len() <= KEY_IN_URL_LEN_MAX {
        return KeyPlace::Path(format!("/v1/keyspaces/{keyspace}/records/{encoded}"));
    }
    let path = format!("/v1/keyspaces/{keyspace}/record");
    KeyPlace::Header { path, value: STANDARD.encode(key) }
}

/// The key in a header.
pub(crate) fn key_of_header(value: &[u8]) -> Outcome<Vec<u8>> {
    if value.len() > limits::KEY_LEN_MAX.div_ceil(3) * 4 {
        let len = value.len() / 4 * 3;
        return Err(base::Error::too_large("key", limits::KEY_LEN_MAX as u64, len as u64).into());
    }
    STANDARD
        .decode(value)
        .map_err(|_| Failure::input(format!("the header {KEY_HEADER} is not padded base64")))
}

/// `bytes` as part of a path or query.
pub(crate) fn percent_encode(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            text.push(char::from(*byte));
        } else {
            text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    text
}

/// The bytes that part of a path or query stands for; `None` if a percent sign has no two digits.
pub(crate) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        rest = tail;
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        bytes.push(digit(high)? << 4 | digit(low)?);
    }
    Some(bytes)
}

/// The commit that a write made.
#[derive(Deserialize, Serialize)]
pub(crate) struct Written {
    /// Its seqno; none if there was nothing to do.
    pub(crate) seqno: Option<u64>,
}

/// The line that ends a stream early.
#[derive(Deserialize)]
struct ErrorLine<'a> {
    #[serde(borrow)]
    error: &'a RawValue,
}

/// The line that says why a stream ends early.
pub(crate) fn error_line(failure: &Failure) -> String {
    format!("{{\"error\":{}}}\n", failure.to_answer())
}

/// The failure that `line` holds, if it is such a line.
pub(crate) fn failure_in(line: &[u8]) -> Option<Failure> {
    let line: ErrorLine<'_> = serde_json::from_slice(line).ok()?;
    Failure::from_answer(line.error.get().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_ends_a_stream_holds_its_failure() {
        let failure = Failure::input("no");
        let line = error_line(&failure);
        assert!(line.ends_with("}}\n"), "{line}");
        assert_eq!(failure_in(line.trim_end().as_bytes()).unwrap().to_json(), failure.to_json());
        assert!(failure_in(br#"{"key":"error","value":"v"}"#).is_none());
    }

    #[test]
    fn a_percent_sign_without_two_digits_is_refused() {
        for bad in ["%", "%1", "a%g0", "%0x", "%+1"] {
            assert!(percent_decode(bad).is_none(), "{bad}");
        }
        assert_eq!(percent_decode("a+%2f%2F.").unwrap(), b"a+//.");
    }

    #[test]
    fn a_header_holds_the_longest_key_and_no_longer_one() {
        let key = vec![0xff; limits::KEY_LEN_MAX];
        let KeyPlace::Header { path, value } = record_path("users", &key) else {
            panic!("a long key is not in the path")
        };
        assert_eq!(path, "/v1/keyspaces/users/record");
        assert_eq!(key_of_header(value.as_bytes()).unwrap(), key);
        let longer = STANDARD.encode(vec![0; limits::KEY_LEN_MAX + 3]);
        assert!(key_of_header(longer.as_bytes()).is_err());
        assert!(key_of_header(b"Y").is_err());
    }

    proptest! {
        /// Bytes come back, and a path made of them has no more segments than it should.
        #[test]
        fn encoded_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = percent_encode(&bytes);
            prop_assert!(!text.contains(['/', '.', '?', '&', '=', '#', ' ']));
            prop_assert_eq!(percent_decode(&text).unwrap(), bytes);
        }
    }
}
