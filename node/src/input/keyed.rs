//! Any JSON object as a record: one field is the key, the object as it stands is the value.

use crate::record::{Record, describe};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// The record of `line`, whose key is the text or number in its field `field`.
pub(super) fn parse(line: &[u8], field: &str) -> Result<Record, String> {
    let line = line.trim_ascii();
    let object: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(line).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => "it is not a JSON object".to_owned(),
            _ => describe(&error),
        })?;
    let key = object.get(field).ok_or_else(|| format!("it has no field {field:?}"))?;
    Ok(Record { keyspace: None, key: key_bytes(key.get(), field)?, value: line.to_vec() })
}

/// The key that the JSON text `raw` stands for: a string's content, a number's digits as written.
fn key_bytes(raw: &str, field: &str) -> Result<Vec<u8>, String> {
    match raw.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(raw) {
            Ok(text) => Ok(text.into_bytes()),
            Err(error) => Err(describe(&error)),
        },
        Some(b'-' | b'0'..=b'9') => Ok(raw.as_bytes().to_vec()),
        _ => Err(format!("its field {field:?} is neither a string nor a number")),
    }
}
