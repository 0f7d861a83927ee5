//! The token by which this node has joined its group, so that it is not asked for again.
//!
//! ```text
//! key        "joined", in the keyspace `esker.node`
//! size       field
//!    1       version   1
//!   32       token     Blake3 of its text
//! ```

use crate::link::Token;
use crate::store::{Store, keyspaces};
use base::{Result, ScopeId};

const VERSION: u8 = 1;
const KEY: &[u8] = b"joined";

/// What is kept of a token.
pub(super) fn digest(token: &Token) -> [u8; 32] {
    *blake3::hash(token.reveal().as_bytes()).as_bytes()
}

/// The digest of the token; none if it never joined by one.
pub(super) fn token(store: &dyn Store) -> Result<Option<[u8; 32]>> {
    let kept = store.get(keyspaces::NODE, KEY)?;
    let digest = kept.as_deref().and_then(|kept| kept.strip_prefix(&[VERSION]));
    Ok(digest.and_then(|digest| digest.try_into().ok()))
}

/// Keeps that it has joined by `token`.
pub(super) fn keep(store: &dyn Store, token: &Token) -> Result<()> {
    let mut value = vec![VERSION];
    value.extend_from_slice(&digest(token));
    store.put(ScopeId::LOCAL, keyspaces::NODE, KEY, &value).map(drop)
}
