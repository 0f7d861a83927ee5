//! A record as `load` reads it and `scan` and `export` write it.
//!
//! One line of JSON a record. Text stands for itself; bytes that are not UTF-8 stand in base64 under
//! the name with `_b64`:
//!
//! ```text
//! {"key":"ada","value":"1815"}
//! {"key_b64":"/wA=","value_b64":"/w=="}
//! {"keyspace":"users","key":"ada","value":"1815"}     with the keyspace, from `export --all`
//! ```

use crate::error::{Exit, Failure, Outcome};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One record on its way into or out of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The keyspace it names; none means the one of the command.
    pub(crate) keyspace: Option<String>,
    /// Its key.
    pub(crate) key: Vec<u8>,
    /// Its value.
    pub(crate) value: Vec<u8>,
}

/// A record as its line of JSON has it.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordLine<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    keyspace: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key_b64: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value_b64: Option<Cow<'a, str>>,
}

impl<'a> RecordLine<'a> {
    /// The line of `key` alone.
    pub(crate) fn of_key(key: &'a [u8]) -> RecordLine<'a> {
        match std::str::from_utf8(key) {
            Ok(text) => RecordLine { key: Some(text.into()), ..RecordLine::default() },
            Err(_) => RecordLine { key_b64: Some(to_base64(key)), ..RecordLine::default() },
        }
    }

    /// The line of `key` with `value`.
    pub(crate) fn new(key: &'a [u8], value: &'a [u8]) -> RecordLine<'a> {
        let line = RecordLine::of_key(key);
        match std::str::from_utf8(value) {
            Ok(text) => RecordLine { value: Some(text.into()), ..line },
            Err(_) => RecordLine { value_b64: Some(to_base64(value)), ..line },
        }
    }

    /// As [`RecordLine::new`], with base64 also for text that JSON would blow up with escapes, so
    /// that no line is much longer than four thirds of its record. For the way to and from a node.
    pub(crate) fn compact(key: &'a [u8], value: &'a [u8]) -> RecordLine<'a> {
        let line = RecordLine::compact_key(key);
        match std::str::from_utf8(value) {
            Ok(text) if !grows(value) => RecordLine { value: Some(text.into()), ..line },
            _ => RecordLine { value_b64: Some(to_base64(value)), ..line },
        }
    }

    /// As [`RecordLine::of_key`], compact.
    pub(crate) fn compact_key(key: &'a [u8]) -> RecordLine<'a> {
        match std::str::from_utf8(key) {
            Ok(text) if !grows(key) => {
                RecordLine { key: Some(text.into()), ..RecordLine::default() }
            }
            _ => RecordLine { key_b64: Some(to_base64(key)), ..RecordLine::default() },
        }
    }

    /// Naming its keyspace.
    pub(crate) fn in_keyspace(self, name: &'a str) -> RecordLine<'a> {
        RecordLine { keyspace: Some(name.into()), ..self }
    }

    /// Appends the line to `out`, with its line feed.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Outcome {
        serde_json::to_writer(&mut *out, self)
            .map_err(|_| Failure::new(Exit::Bug, "Bug", "a record is no line of JSON"))?;
        out.push(b'\n');
        Ok(())
    }

    /// Reads a line; the error says what is wrong with it without repeating its content.
    pub(crate) fn parse(line: &[u8]) -> Result<Record, String> {
        let line: RecordLine<'_> = serde_json::from_slice(line).map_err(|e| describe(&e))?;
        Ok(Record {
            key: bytes_of("key", line.key, line.key_b64)?,
            value: bytes_of("value", line.value, line.value_b64)?,
            keyspace: line.keyspace.map(Cow::into_owned),
        })
    }
}

impl RecordLine<'_> {
    /// Reads the line of a key alone; the value is empty.
    pub(crate) fn parse_key(line: &[u8]) -> Result<Record, String> {
        let line: RecordLine<'_> = serde_json::from_slice(line).map_err(|e| describe(&e))?;
        Ok(Record {
            key: bytes_of("key", line.key, line.key_b64)?,
            value: Vec::new(),
            keyspace: line.keyspace.map(Cow::into_owned),
        })
    }
}

/// Whether JSON makes `text` longer by more than base64 would: an escape has up to six bytes.
fn grows(text: &[u8]) -> bool {
    let escaped = text.iter().filter(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')).count();
    escaped > text.len() / 16
}

/// The bytes of the field `name`, given as text or as base64.
pub(crate) fn bytes_of(
    name: &str,
    text: Option<Cow<'_, str>>,
    encoded: Option<Cow<'_, str>>,
) -> Result<Vec<u8>, String> {
    match (text, encoded) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(encoded)) => STANDARD
            .decode(encoded.as_bytes())
            .map_err(|_| format!("\"{name}_b64\" is not padded base64")),
        (Some(_), Some(_)) => Err(format!("it has both \"{name}\" and \"{name}_b64\"")),
        (None, None) => Err(format!("it has neither \"{name}\" nor \"{name}_b64\"")),
    }
}

fn to_base64(bytes: &[u8]) -> Cow<'static, str> {
    STANDARD.encode(bytes).into()
}

/// What is wrong with JSON, by kind and column: the parser's own words may quote the data.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let column = error.column();
    match error.classify() {
        Category::Eof => "the JSON object ends too early".to_owned(),
        Category::Syntax | Category::Io => format!("it is not JSON at column {column}"),
        Category::Data => format!(
            "it is not an object of strings {{\"key\":..,\"value\":..}} at column {column}; \
             use --key FIELD for other objects"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(line: &str) -> String {
        RecordLine::parse(line.as_bytes()).unwrap_err()
    }

    #[test]
    fn text_and_bytes_are_read() {
        let record = RecordLine::parse(br#" {"value_b64":"/wA=","key":"a\u0000\ud83e\uddc0"} "#);
        let record = record.unwrap();
        assert_eq!(record.key, "a\0🧀".as_bytes());
        assert_eq!(record.value, b"\xff\0");
    }

    #[test]
    fn every_mistake_has_its_sentence() {
        assert!(reason(r#"{"key":"a"}"#).contains("neither \"value\""));
        assert!(reason(r#"{"key":"a","key_b64":"YQ==","value":""}"#).contains("both \"key\""));
        assert!(reason(r#"{"key_b64":"Y","value":""}"#).contains("base64"));
        assert!(reason(r#"{"key":"a","val":"b"}"#).contains("--key FIELD"));
        assert!(reason(r#"{"key":1,"value":"b"}"#).contains("column"));
        assert!(reason(r#"{"key":"a","value":"b"} x"#).contains("not JSON"));
        assert!(reason(r#"{"key":"a","value":"b""#).contains("too early"));
        assert!(RecordLine::parse(b"{\"key\":\"\xff\",\"value\":\"\"}").is_err());
    }

    #[test]
    fn a_mistake_never_repeats_the_data() {
        for line in [r#"{"key":"a","secret":"b"}"#, r#"{"key":secret}"#, r#"["secret"]"#, "secret"]
        {
            assert!(!reason(line).contains("secret"), "{line}");
        }
    }

    /// What a node reads and writes is bounded by what a record may have, whatever is in it.
    #[test]
    fn a_compact_line_never_grows_much() {
        for byte in [0, b'"', b'\\', b'a', 0x7f, 0xff] {
            let (key, value) = (vec![byte; 3000], vec![byte; 9000]);
            let line = serde_json::to_vec(&RecordLine::compact(&key, &value)).unwrap();
            assert!(line.len() < 12_000 * 4 / 3 + 100, "{byte}: {}", line.len());
        }
        let mixed: Vec<u8> = (0..8000).map(|at| if at % 17 == 0 { 0 } else { b'a' }).collect();
        let line = serde_json::to_vec(&RecordLine::compact(b"k", &mixed)).unwrap();
        assert!(line.len() < 8000 * 4 / 3 + 100, "{}", line.len());
    }

    proptest! {
        /// What `scan` and `export` write, `load` reads back byte for byte.
        #[test]
        fn a_line_comes_back(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                any::<String>().prop_map(String::into_bytes),
            ],
            keyspace in proptest::option::of(".{1,20}"),
        ) {
            let mut line = RecordLine::new(&key, &value);
            if let Some(name) = &keyspace {
                line = line.in_keyspace(name);
            }
            let text = serde_json::to_string(&line).unwrap();
            let mut compact = RecordLine::compact(&key, &value);
            if let Some(name) = &keyspace {
                compact = compact.in_keyspace(name);
            }
            let compact = serde_json::to_string(&compact).unwrap();
            let record = Record { keyspace: keyspace.clone(), key: key.clone(), value: value.clone() };
            prop_assert_eq!(RecordLine::parse(compact.as_bytes()).unwrap(), record);
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(RecordLine::parse(text.as_bytes()).unwrap(), Record { keyspace, key, value });
        }
    }
}
