//! What nodes are introduced with: tokens, fingerprints and changes of keys.

use crate::damage::damage;
use crate::input::Input;
use replication::link::{Fingerprint, LinkKey, Rotation, Succession, Token};

/// Decodes introductions. What is accepted has one form, and a genuine one that was damaged is
/// refused or unchanged.
pub fn introductions(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => text(&String::from_utf8_lossy(input.rest())),
        1 => record(input.rest()),
        2 => damaged_token(&mut input),
        _ => damaged_record(&mut input),
    }
}

fn text(text: &str) {
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.reveal(), text.trim().to_ascii_lowercase());
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string(), text.to_ascii_lowercase());
    }
}

fn record(bytes: &[u8]) {
    if let Ok(rotation) = Rotation::decode(bytes) {
        assert_eq!(rotation.encode(), bytes);
    }
    if let Ok(changes) = Succession::decode(bytes) {
        assert_eq!(changes.encode(), bytes);
    }
}

/// A token that somebody wrote down, written off wrongly.
fn damaged_token(input: &mut Input<'_>) {
    let mut bytes = vec![1];
    bytes.extend((0..48).map(|_| input.byte()));
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(&digest.as_bytes()[..4]);
    let genuine = base32(&bytes);
    assert_eq!(genuine.parse::<Token>().unwrap().reveal(), genuine);
    let mut written = genuine.into_bytes();
    damage(&mut written, input);
    text(&String::from_utf8_lossy(&written));
}

fn damaged_record(input: &mut Input<'_>) {
    // A seed of zeros is no key.
    let key = |input: &mut Input<'_>| LinkKey::from_seed([input.byte().max(1); 32]).unwrap();
    let (old, new) = (key(input), key(input));
    let genuine = Rotation::sign(old.fingerprint().node(), &old, &new).encode();
    let mut bytes = genuine.to_vec();
    damage(&mut bytes, input);
    let is_changed = bytes != genuine;
    let is_same_key = old.fingerprint() == new.fingerprint();
    assert_eq!(Rotation::decode(&bytes).is_err(), is_changed || is_same_key);
}

/// From the definition of base32, a bit at a time.
fn base32(bytes: &[u8]) -> String {
    let mut bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    bits.resize(bits.len().next_multiple_of(5), 0);
    let letter = |five: &[u8]| {
        let value = five.iter().fold(0, |value, bit| value << 1 | bit);
        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(value)])
    };
    bits.chunks(5).map(letter).collect()
}
