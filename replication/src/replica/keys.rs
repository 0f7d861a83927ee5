//! The changes of nodes' keys: taken from the roster and from handshakes, and kept.
//!
//! A node that changes its key notes that for itself first, then exchanges the secret by one rename.
//! Only a change that has led to the secret that is there counts, so a crash in between leaves one key.
//! Whatever is known goes into the roster as soon as this node may write there, and until then into the
//! keyspace `esker.node`:
//!
//! ```text
//! key        'k' (1), node (16)
//! size       field
//!    *       changes     see `link/succession.rs`
//! ```

use super::{ReplicaError, Shared};
use crate::group::Writes;
use crate::link::{Fingerprint, LinkError, LinkKey, Pins, Succession};
use crate::roster::Roster;
use crate::store::{Held, Store, keyspaces};
use base::lock::{Mutex, Rank};
use base::{Identity, NodeId, Result, Rng, ScopeId};
use std::collections::BTreeMap;

/// Changes as they were read last: their signatures are verified once.
#[derive(Debug)]
pub(super) struct Keys {
    seen: Mutex<BTreeMap<NodeId, Vec<u8>>>,
}

impl Keys {
    /// What this node has noted itself is known to `pins` afterwards.
    pub(super) fn read(store: &dyn Store, pins: &Pins) -> Result<Keys> {
        let keys = Keys { seen: Mutex::new(Rank::Links, BTreeMap::new()) };
        let own = store.origin().node;
        for Held { key, value, .. } in store.entries(keyspaces::NODE)? {
            if let Some(node) = node_of(&key).filter(|node| *node != own) {
                keys.hear(node, &value, pins);
            }
        }
        Ok(keys)
    }

    /// Follows changes that were read, unless they were before.
    fn hear(&self, node: NodeId, bytes: &[u8], pins: &Pins) {
        let before = self.seen.lock().insert(node, bytes.to_vec());
        if before.as_deref() == Some(bytes) {
            return;
        }
        let followed = Succession::decode(bytes).and_then(|changes| match changes.node() == node {
            true => pins.follow(&changes),
            false => Err(LinkError::Text { what: "change of a key", reason: "it is of another" }),
        });
        if let Err(error) = followed {
            tracing::warn!(%node, code = error.code(), %error, "the changes of the key of a node are not believed");
        }
    }
}

impl Shared {
    /// Takes over what the roster says of keys, and keeps what it does not say.
    pub(super) fn look_at_keys(&self, roster: &Roster) -> Result<()> {
        for (node, bytes) in roster.keys() {
            if roster.member(node).is_some() {
                self.keys.hear(node, bytes, &self.pins);
            }
        }
        let written = |node| roster.keys().find(|(of, _)| *of == node).map_or(0, |(_, b)| b.len());
        for changes in self.pins.successions() {
            let (node, bytes) = (changes.node(), changes.encode());
            if bytes.len() > written(node) {
                self.keep(node, &bytes)?;
            }
        }
        Ok(())
    }

    fn keep(&self, node: NodeId, bytes: &[u8]) -> Result<()> {
        let key = Roster::keys_key(node);
        if self.group.writes() == Writes::Open && self.group.may_write_roster() {
            let scope = self.group.scope();
            self.store.put(scope, keyspaces::ROSTER, &key, bytes)?;
        } else if self.store.get(keyspaces::NODE, &key)?.as_deref() != Some(bytes) {
            self.store.put(ScopeId::LOCAL, keyspaces::NODE, &key, bytes)?;
        }
        Ok(())
    }
}

/// The key of this node, with the changes that have led to it.
pub(super) fn own(
    store: &dyn Store,
    identity: &Identity,
) -> Result<(LinkKey, Succession), ReplicaError> {
    let key = LinkKey::of(identity)?;
    let changes = succession(store, identity.node, key.fingerprint())?;
    Ok((key.succeeding(&changes)?, changes))
}

fn succession(
    store: &dyn Store,
    node: NodeId,
    key: Fingerprint,
) -> Result<Succession, ReplicaError> {
    // What was noted here may be lost with a table; the group has it all the same.
    for keyspace in [keyspaces::NODE, keyspaces::ROSTER] {
        let bytes = store.get(keyspace, &Roster::keys_key(node))?;
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { continue };
        let changes = Succession::decode(&bytes)?;
        if let Some(changes) = changes.up_to(key) {
            return Ok(changes);
        }
    }
    let reason = "its changes do not lead to the present one".to_owned();
    Succession::none(node).up_to(key).ok_or(LinkError::Key { reason }.into())
}

/// Another secret for this node, and notes, durably, that its key changes to that of the secret. It
/// does only once the secret takes the place of the present one, see the module.
///
/// # Errors
/// `Rotation` if the key was changed too often.
pub fn new_secret(
    store: &dyn Store,
    identity: &Identity,
    rng: &dyn Rng,
) -> Result<[u8; 32], ReplicaError> {
    let (present, changes) = own(store, identity)?;
    let mut secret = [0; 32];
    rng.fill(&mut secret).map_err(|e| base::Error::io("draw", "random bytes", e))?;
    let new = LinkKey::from_seed(secret)?;
    let changes = changes.then(&present, &new)?;
    let key = Roster::keys_key(identity.node);
    store.put(ScopeId::LOCAL, keyspaces::NODE, &key, &changes.encode())?;
    Ok(secret)
}

/// Whose changes a record of `esker.node` has, if it has any.
fn node_of(key: &[u8]) -> Option<NodeId> {
    let node = NodeId(*key.last_chunk()?);
    (Roster::keys_key(node) == key).then_some(node)
}
