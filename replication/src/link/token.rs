//! The text by which a new node is let in: who invites, and a secret that is good once.
//!
//! ```text
//! offset  size  field
//!      0     1  version   1
//!      1    16  secret    random
//!     17    32  issuer    fingerprint of the node that invites
//!     49     4  checksum  first bytes of the Blake3 of bytes 0..49, against slips of the pen
//! ```
//!
//! Written in base32 (a to z, 2 to 7), 85 characters. The secret itself never travels: the new node
//! proves that it has it, see `join.rs`.

use super::error::LinkError;
use super::key::Fingerprint;
use std::fmt;
use std::str::FromStr;

const VERSION: u8 = 1;
const CHECKED: usize = 1 + 16 + 32;
const LEN: usize = CHECKED + 4;
const _: () = assert!(LEN == 53, "as the diagram above says");
const TEXT_LEN: usize = (8 * LEN).div_ceil(5);

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// An invitation. Shown once, to the operator who asked for it; never logged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub(crate) secret: [u8; 16],
    pub(crate) issuer: Fingerprint,
}

impl Token {
    /// The node that invites.
    pub fn issuer(&self) -> Fingerprint {
        self.issuer
    }

    /// The text, to be handed to the new node.
    pub fn reveal(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.issuer.0);
        bytes.extend_from_slice(&checksum(&bytes));
        base32(&bytes)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token {{ issuer: {} }}", self.issuer)
    }
}

impl FromStr for Token {
    type Err = LinkError;

    /// Case and surrounding space do not matter.
    fn from_str(text: &str) -> Result<Token, LinkError> {
        let bad = |reason| LinkError::Text { what: "token", reason };
        let text = text.trim();
        if text.len() != TEXT_LEN {
            return Err(bad("it has not 85 characters"));
        }
        let bytes = from_base32(text).ok_or(bad("a character in it is none of a-z and 2-7"))?;
        let (checked, stored) = bytes.split_at(CHECKED);
        if checksum(checked) != stored {
            return Err(bad("its checksum is wrong"));
        }
        let cut = || bad("it ends too early");
        let (version, rest) = checked.split_first().ok_or_else(cut)?;
        if *version != VERSION {
            return Err(bad("it is of another version"));
        }
        let (secret, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let issuer = rest.first_chunk().ok_or_else(cut)?;
        Ok(Token { secret: *secret, issuer: Fingerprint(*issuer) })
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    blake3::hash(bytes).as_bytes().first_chunk().copied().unwrap_or_default()
}

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(TEXT_LEN);
    let (mut bits, mut held) = (0u32, 0u32);
    let mut push = |five: u32| {
        let letter = ALPHABET.get(five as usize & 31).copied().unwrap_or_default();
        text.push(char::from(letter));
    };
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            push(bits >> held);
        }
    }
    if held > 0 {
        push(bits << (5 - held));
    }
    text
}

/// The bytes of a text of the right length; `None` if another text would give the same.
fn from_base32(text: &str) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    let mut out = bytes.iter_mut();
    let (mut bits, mut held) = (0u32, 0u32);
    for letter in text.bytes() {
        let letter = letter.to_ascii_lowercase();
        let five = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 | u32::try_from(five).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            *out.next()? = (bits >> held) as u8;
        }
    }
    let is_canonical = bits & ((1 << held) - 1) == 0;
    (is_canonical && out.next().is_none()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token { secret: *b"sixteen bytes ok", issuer: Fingerprint([0xa5; 32]) }
    }

    #[test]
    fn a_token_comes_back_in_any_case() {
        let text = token().reveal();
        assert_eq!(text.len(), 85);
        assert_eq!(text.parse::<Token>().unwrap(), token());
        assert_eq!(format!(" {}\n", text.to_uppercase()).parse::<Token>().unwrap(), token());
    }

    #[test]
    fn a_token_with_any_character_changed_or_missing_is_refused() {
        let text = token().reveal();
        for at in 0..text.len() {
            for other in ['a', 'q', '7', '1', 'ä', ' '] {
                let mut changed: Vec<char> = text.chars().collect();
                if changed[at] != other {
                    changed[at] = other;
                    let changed: String = changed.into_iter().collect();
                    assert_eq!(changed.parse::<Token>().unwrap_err().code(), "BadText");
                }
            }
            assert!(text[..at].parse::<Token>().is_err());
        }
    }

    #[test]
    fn a_token_does_not_show_its_secret_by_accident() {
        assert!(!format!("{:?}", token()).contains("115"), "{:?}", token());
    }
}
