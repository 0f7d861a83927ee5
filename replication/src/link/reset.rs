//! Resets: how a node that was started again ends the connections of its former life.
//!
//! Each connection comes with a token, by which the node at the other end believes that it is over.
//! A node that has forgotten its connections can make the token again: it is made of the name of the
//! connection and of a key, which is derived from the node's own. Names carry a mark of that key,
//! so packets that are not for this node are not answered.

use super::key::LinkKey;
use quinn::EndpointConfig;
use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::HashedConnectionIdGenerator;
use std::sync::Arc;

const TOKENS: &str = "esker 2026 reset of connections";
const NAMES: &str = "esker 2026 names of connections";

/// The configuration of an endpoint of the holder of `key`.
pub(crate) fn config(key: &LinkKey) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey(key.derive(TOKENS))));
    let [a, b, c, d, e, f, g, h, ..] = key.derive(NAMES);
    let names = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(names)));
    config
}

/// Makes tokens: keyed Blake3.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        let made = blake3::keyed_hash(&self.0, data);
        for (to, from) in signature.iter_mut().zip(made.as_bytes()) {
            *to = *from;
        }
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // In constant time.
        let made = blake3::keyed_hash(&self.0, data);
        let given = <[u8; blake3::OUT_LEN]>::try_from(signature).map_err(|_| CryptoError)?;
        if made == blake3::Hash::from_bytes(given) { Ok(()) } else { Err(CryptoError) }
    }
}
