//! What strangers show at the door: a certificate, and a request to be let in.

use crate::damage::damage;
use crate::input::Input;
use replication::link::{Fingerprint, LinkKey, Rotation, Succession, join_request, shown_in};

/// A request is exactly as long as one, and what is read comes back.
pub fn request(data: &[u8]) {
    let mut input = Input::new(data);
    let genuine = join_request::encode(&blake3::hash(input.bytes(40)));
    assert!(join_request::decode(&genuine).is_ok());
    let mut bytes = genuine;
    damage(&mut bytes, &mut input);
    for bytes in [&bytes[..], input.rest()] {
        match join_request::decode(bytes) {
            Ok(proof) => assert_eq!(join_request::encode(&proof), bytes),
            Err(error) => assert_eq!(error.code(), "JoinRefused"),
        }
    }
}

/// Whatever a certificate became: it shows no key, or a key with the name of that key; the name of a
/// node that has changed its key is shown with its present key only.
pub fn certificate(data: &[u8]) {
    let mut input = Input::new(data);
    // A seed of zeros is no key.
    let seeds = [input.byte().max(1), input.byte().max(1)];
    let [old, new] = seeds.map(|seed| LinkKey::from_seed([seed; 32]).unwrap());
    let changes = Succession::none(old.fingerprint().node());
    let is_changed = seeds[0] != seeds[1] && input.byte().is_multiple_of(2);
    let (key, changes) = match is_changed {
        true => {
            let changes = changes.then(&old, &new).unwrap();
            (new.succeeding(&changes).unwrap(), changes)
        }
        false => (old, changes),
    };
    assert_eq!(shown_in(key.shown()), Some((key.fingerprint(), changes.node())));
    let mut bytes = key.shown().to_vec();
    if is_changed && input.byte().is_multiple_of(2) {
        steal(&mut bytes, &changes, input.byte() | 1);
    }
    damage(&mut bytes, &mut input);
    for bytes in [&bytes[..], input.rest()] {
        let Some((shown, node)) = shown_in(bytes) else { continue };
        let is_named_after = |key: Fingerprint| node == key.node();
        assert!(is_named_after(shown) || (node == changes.node() && changes.is_at(shown)));
    }
}

/// Puts another key where the present one stands, and leaves the changes that lead to that.
fn steal(certificate: &mut [u8], changes: &Succession, with: u8) {
    let changes = changes.encode();
    let present = &changes[changes.len() - Rotation::LEN + 56..][..32];
    let at = certificate.windows(32).position(|window| window == present).unwrap();
    certificate[at] ^= with;
}
