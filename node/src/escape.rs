//! Bytes as unambiguous text on one line, as `scan` prints keys and values.
//!
//! ```text
//! \\      a backslash
//! \t      a TAB
//! \n      a line feed
//! \r      a carriage return
//! \xNN    any other control character's bytes, and every byte that is not part of valid UTF-8
//! ```
//!
//! Everything else stands for itself. Different bytes give different text.

use std::io::{self, Write};

/// Writes `bytes` escaped.
pub(crate) fn write_escaped(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.utf8_chunks() {
        write_text(out, chunk.valid())?;
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Writes valid text escaped, in runs that need no escape.
fn write_text(out: &mut impl Write, mut text: &str) -> io::Result<()> {
    while let Some(at) = text.find(needs_escape) {
        let (plain, rest) = text.split_at(at);
        out.write_all(plain.as_bytes())?;
        let mut chars = rest.chars();
        if let Some(special) = chars.next() {
            write_special(out, special)?;
        }
        text = chars.as_str();
    }
    out.write_all(text.as_bytes())
}

fn needs_escape(c: char) -> bool {
    c == '\\' || c.is_control()
}

fn write_special(out: &mut impl Write, special: char) -> io::Result<()> {
    match special {
        '\\' => out.write_all(b"\\\\"),
        '\t' => out.write_all(b"\\t"),
        '\n' => out.write_all(b"\\n"),
        '\r' => out.write_all(b"\\r"),
        other => {
            let mut buffer = [0; 4];
            for byte in other.encode_utf8(&mut buffer).bytes() {
                write!(out, "\\x{byte:02x}")?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escape(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_escaped(&mut out, bytes).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The inverse, as a reader of the description above would write it.
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            rest = tail;
            if *first != b'\\' {
                bytes.push(*first);
                continue;
            }
            let (kind, tail) = rest.split_first().unwrap();
            rest = tail;
            bytes.push(match kind {
                b'\\' => b'\\',
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'x' => {
                    let (hex, tail) = rest.split_at(2);
                    rest = tail;
                    u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap()
                }
                _ => panic!("unknown escape"),
            });
        }
        bytes
    }

    #[test]
    fn plain_text_stands_for_itself() {
        assert_eq!(escape("käse 🧀".as_bytes()), "käse 🧀");
        assert_eq!(escape(b"a\tb\nc\\d\re"), "a\\tb\\nc\\\\d\\re");
        assert_eq!(escape(b"\xff\x00\x7f"), "\\xff\\x00\\x7f");
        assert_eq!(escape("\u{85}".as_bytes()), "\\xc2\\x85");
    }

    proptest! {
        /// Escaped bytes are one line without TABs and come back.
        #[test]
        fn escaped_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = escape(&bytes);
            prop_assert!(!text.contains(['\t', '\n', '\r']));
            prop_assert_eq!(unescape(&text), bytes);
        }
    }
}
