//! What a new node sends to be let in, see `join.rs`.
//!
//! ```text
//! offset  size  field
//!      0     1  version  1
//!      1    32  proof    keyed Blake3 over the secrets of this connection and both keys; the key
//!                        is derived from the token's secret
//! ```

use super::error::{LinkError, Side};

const VERSION: u8 = 1;

/// The request with this proof.
pub fn encode(proof: &blake3::Hash) -> Vec<u8> {
    [&[VERSION][..], proof.as_bytes()].concat()
}

/// The proof in a request.
pub fn decode(request: &[u8]) -> Result<blake3::Hash, LinkError> {
    let bad = |reason| Err(LinkError::Join { by: Side::Us, reason });
    match request.split_first() {
        Some((&VERSION, proof)) => match <[u8; 32]>::try_from(proof) {
            Ok(proof) => Ok(blake3::Hash::from_bytes(proof)),
            Err(_) => bad("the request has not the length of one"),
        },
        Some(_) => bad("the request is of another version"),
        None => bad("the request is empty"),
    }
}
