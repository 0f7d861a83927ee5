//! The peers that a node was told of, and where they are. Kept in the keyspace `esker.node`.
//!
//! ```text
//! key        'p' (1), node (16)
//! size       field
//!    1       version     1
//!    1       flags       bit 0: enabled; others 0
//!    v+*     address     host:port as numbers, at most 64 bytes; empty = not known
//! ```

use crate::roster::Role;
use crate::store::{Held, Store, keyspaces};
use base::codec::{Decoded, Reader, put_bytes};
use base::{Corruption, NodeId, Result, ScopeId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const VERSION: u8 = 1;
const PEER: u8 = b'p';
const ENABLED: u8 = 1;
/// Removed: the record stays, because the keyspace has no delete.
const FORGOTTEN: u8 = 2;
const ADDRESS_LEN_MAX: usize = 64;

/// A peer as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: NodeId,
    /// Where it is dialed.
    pub address: Option<SocketAddr>,
    /// Whether it is talked to at all.
    pub is_enabled: bool,
}

impl Peer {
    /// A member of the group that this node was told nothing about.
    pub(super) fn unknown(node: NodeId) -> Peer {
        Peer { node, address: None, is_enabled: true }
    }
}

/// How the treatment of a peer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// It is talked to.
    Enable,
    /// It is not talked to; what it has confirmed still counts.
    Disable,
    /// It is in the group what this says.
    Become(Role),
    /// It is neither dialed nor let in nor shown any more. If it is a member it should be deprecated
    /// first.
    Forget,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    peers: BTreeMap<NodeId, Peer>,
    forgotten: BTreeSet<NodeId>,
}

impl Book {
    /// What `store` remembers.
    pub(super) fn read(store: &dyn Store) -> Result<Book> {
        let mut book = Book::default();
        for Held { key, value, .. } in store.entries(keyspaces::NODE)? {
            let Some((&PEER, node)) = key.split_first() else { continue };
            let Ok(node) = <[u8; 16]>::try_from(node) else { continue };
            match decode(NodeId(node), &value) {
                Ok(Some(peer)) => drop(book.peers.insert(peer.node, peer)),
                Ok(None) => drop(book.forgotten.insert(NodeId(node))),
                Err(found) => {
                    let node = NodeId(node);
                    tracing::warn!(%node, code = "Malformed", %found, "a record of a peer is not readable: add it again");
                }
            }
        }
        Ok(book)
    }

    /// Adds a peer, or notes where it is.
    pub(super) fn add(
        &mut self,
        store: &dyn Store,
        node: NodeId,
        address: Option<SocketAddr>,
    ) -> Result<()> {
        let known = self.peers.get(&node).copied();
        let peer = known.unwrap_or(Peer::unknown(node));
        let peer = Peer { address: address.or(peer.address), ..peer };
        if known == Some(peer) { Ok(()) } else { self.put(store, peer) }
    }

    /// Changes a peer.
    pub(super) fn change(
        &mut self,
        store: &dyn Store,
        node: NodeId,
        change: PeerChange,
    ) -> Result<()> {
        let known = self.peers.get(&node).copied();
        let peer = known.unwrap_or(Peer::unknown(node));
        match change {
            PeerChange::Enable => self.put(store, Peer { is_enabled: true, ..peer }),
            PeerChange::Disable => self.put(store, Peer { is_enabled: false, ..peer }),
            PeerChange::Become(_) => Ok(()),
            PeerChange::Forget => {
                write(store, node, FORGOTTEN, None)?;
                self.peers.remove(&node);
                self.forgotten.insert(node);
                Ok(())
            }
        }
    }

    fn put(&mut self, store: &dyn Store, peer: Peer) -> Result<()> {
        write(store, peer.node, u8::from(peer.is_enabled) * ENABLED, peer.address)?;
        self.forgotten.remove(&peer.node);
        self.peers.insert(peer.node, peer);
        Ok(())
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    /// Whether it was removed, and so is not let in although it may be a member still.
    pub(super) fn has_forgotten(&self, node: NodeId) -> bool {
        self.forgotten.contains(&node)
    }

    /// All, by node.
    pub(super) fn all(&self) -> Vec<Peer> {
        self.peers.values().copied().collect()
    }
}

fn write(store: &dyn Store, node: NodeId, flags: u8, address: Option<SocketAddr>) -> Result<()> {
    let key = [&[PEER][..], &node.0].concat();
    let mut value = vec![VERSION, flags];
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    put_bytes(&mut value, address.as_bytes());
    store.put(ScopeId::LOCAL, keyspaces::NODE, &key, &value)?;
    Ok(())
}

/// The peer; none if it was forgotten.
fn decode(node: NodeId, value: &[u8]) -> Decoded<Option<Peer>> {
    let mut reader = Reader::new(value);
    if reader.u8()? != VERSION {
        return Err(Corruption::UnknownKind);
    }
    let flags = reader.u8()?;
    let address = reader.bytes()?;
    if flags & !(ENABLED | FORGOTTEN) != 0 || address.len() > ADDRESS_LEN_MAX {
        return Err(Corruption::OutOfRange);
    }
    if !reader.is_empty() {
        return Err(Corruption::TrailingBytes);
    }
    let address = match address {
        [] => None,
        text => {
            let text = std::str::from_utf8(text).map_err(|_| Corruption::OutOfRange)?;
            Some(text.parse().map_err(|_| Corruption::OutOfRange)?)
        }
    };
    let peer = Peer { node, address, is_enabled: flags & ENABLED != 0 };
    Ok((flags & FORGOTTEN == 0).then_some(peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    #[test]
    fn peers_are_remembered_as_they_were_changed_and_forgotten_ones_are_not() {
        let store = MemoryStore::new(NodeId([9; 16]), base::Incarnation(1), 1_000);
        let mut book = Book::read(&store).unwrap();
        let node = |number| NodeId([number; 16]);
        let address: SocketAddr = "10.1.2.3:7400".parse().unwrap();
        book.add(&store, node(1), Some(address)).unwrap();
        book.add(&store, node(2), None).unwrap();
        book.add(&store, node(3), Some(address)).unwrap();
        book.change(&store, node(1), PeerChange::Disable).unwrap();
        book.add(&store, node(1), None).unwrap();
        book.change(&store, node(3), PeerChange::Forget).unwrap();
        let again = Book::read(&store).unwrap();
        assert!(again.has_forgotten(node(3)) && !again.has_forgotten(node(1)));
        assert_eq!(again.all(), book.all());
        let expected = [
            Peer { node: node(1), address: Some(address), is_enabled: false },
            Peer { node: node(2), address: None, is_enabled: true },
        ];
        assert_eq!(book.all(), expected);
    }

    #[test]
    fn a_damaged_record_is_left_out_and_never_a_panic() {
        for value in [&b""[..], &[2, 0, 0], &[1, 9, 0], &[1, 1, 3, b'a', b'b', b'c'], &[1, 1, 0, 0]]
        {
            assert!(decode(NodeId([1; 16]), value).is_err(), "{value:?}");
        }
    }
}
