//! The demonstration's data: the table of all Unicode characters.
//!
//! See `data/ucd/README.md` for its origin. A record's key is its code point as `U+` and six
//! hexadecimal digits, so that keys sort like code points; its value is the rest of its line.

use crate::error::{Exit, Failure, Outcome};
use std::sync::OnceLock;

/// The table as it ships with the project, packed by zstd: a ninth of it, of all that the command is.
const PACKED: &[u8] = include_bytes!("../data/ucd/UnicodeData.txt.zst");
/// Bytes of the table.
const TEXT_LEN: usize = 1_913_704;

/// Ranges of the table that people know, first and last code point inclusive.
pub(crate) const BLOCKS: [(&str, u32, u32); 8] = [
    ("Basic Latin", 0x0000, 0x007F),
    ("Greek and Coptic", 0x0370, 0x03FF),
    ("Cyrillic", 0x0400, 0x04FF),
    ("Devanagari", 0x0900, 0x097F),
    ("Hangul Jamo", 0x1100, 0x11FF),
    ("Mathematical Operators", 0x2200, 0x22FF),
    ("Cuneiform", 0x12000, 0x123FF),
    ("Emoticons", 0x1F600, 0x1F64F),
];

/// The records of the table, in order.
pub(crate) fn records() -> Outcome<impl Iterator<Item = (String, &'static str)>> {
    Ok(text()?.lines().filter_map(|line| {
        let (code_point, rest) = line.split_once(';')?;
        let code_point = u32::from_str_radix(code_point, 16).ok()?;
        Some((key_of(code_point), rest))
    }))
}

/// The table, unpacked when it is first asked for.
fn text() -> Outcome<&'static str> {
    static TEXT: OnceLock<String> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(text);
    }
    let bug = || Failure::new(Exit::Bug, "Bug", "the table of characters can not be unpacked");
    let bytes = zstd::bulk::decompress(PACKED, TEXT_LEN).map_err(|_| bug())?;
    let text = String::from_utf8(bytes).map_err(|_| bug())?;
    Ok(TEXT.get_or_init(|| text))
}

/// The key of a code point.
pub(crate) fn key_of(code_point: u32) -> String {
    format!("U+{code_point:06X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_the_table_beside_it() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ucd");
        let table = std::fs::read_to_string(folder.join("UnicodeData.txt")).unwrap();
        assert!(text().unwrap() == table && table.len() == TEXT_LEN);
    }

    #[test]
    fn every_line_is_a_record_and_keys_ascend() {
        let keys: Vec<String> = records().unwrap().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), text().unwrap().lines().count());
        assert!(keys.len() > 34_000 && keys.is_sorted());
        assert_eq!(
            records().unwrap().next().map(|(_, value)| value.starts_with("<control>")),
            Some(true)
        );
    }
}
