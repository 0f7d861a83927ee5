//! How a node that joins is let in, and what it is told: who is in the group, and where.
//!
//! ```text
//! size    field
//!    1    version     1
//!    v    members     how many, at most 256
//!   per member:
//!   16      node
//!    v      addresses how many, at most 16
//!   per address:
//!    v+*      address UTF-8, at most 255 bytes
//! ```

use super::Shared;
use super::book::Peer;
use crate::link::{Fingerprint, LinkError, Register, Side};
use crate::roster::{ADDRESS_LEN_MAX, ADDRESSES_MAX, MEMBERS_MAX, Member, Role, Roster};
use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::{Corruption, Error, NodeId, Result};
use std::net::SocketAddr;
use std::sync::Arc;

const VERSION: u8 = 1;
/// Why a node lets nobody in: it would be of another group than those it is to be one with.
pub const NOT_MET: &str = "this node has not met its own group yet";

/// What lets a new node in: it becomes a member, and is told who the others are.
pub(super) fn register(shared: &Arc<Shared>) -> Register {
    let shared = Arc::downgrade(shared);
    Arc::new(move |_: Fingerprint, node: NodeId, address: SocketAddr| {
        let shared = shared.upgrade().ok_or_else(|| refusal("the node shuts down"))?;
        let entered = shared.enter(node, address);
        entered.map_err(|error| refusal(&error.to_string()))
    })
}

fn refusal(reason: &str) -> LinkError {
    tracing::warn!(code = "JoinRefused", reason, "a node could not be let in");
    LinkError::Join { by: Side::Us, reason: "the roster can not be written now" }
}

impl Shared {
    fn enter(&self, node: NodeId, address: SocketAddr) -> Result<Vec<u8>> {
        let addresses = vec![address.to_string()];
        let member = Member { addresses, ..Member::new(Role::Author) };
        let role = self.group.role_of(node);
        if role.is_none_or(|role| role == Role::Deprecated) {
            self.group.refuse_unless_author()?;
        }
        self.group.found(&*self.store)?;
        if self.group.has_yet_to_meet() {
            return Err(Error::invalid(NOT_MET));
        }
        match role {
            // It may turn out to be one that only reads.
            None => self.group.enrol(&*self.store, node, &member)?,
            Some(Role::Deprecated) => {
                self.group.set_member(&*self.store, node, member)?;
            }
            Some(Role::Author | Role::Observer) => {}
        }
        self.book.lock().add(&*self.store, node, Some(address))?;
        Ok(encode(&self.group.roster(), &self.book.lock().all()))
    }
}

/// The members who are not fenced, with the addresses of the roster and of our own book.
fn encode(roster: &Roster, book: &[Peer]) -> Vec<u8> {
    let live = roster.members().filter(|(_, member)| member.role != Role::Deprecated);
    let members: Vec<_> = live.take(MEMBERS_MAX).collect();
    let mut out = vec![VERSION];
    put_varint(&mut out, members.len() as u64);
    for (node, member) in members {
        let own = book.iter().find(|peer| peer.node == node).and_then(|peer| peer.address);
        let mut addresses: Vec<String> = own.iter().map(ToString::to_string).collect();
        addresses.extend(member.addresses.iter().cloned());
        addresses.truncate(ADDRESSES_MAX);
        out.extend_from_slice(&node.0);
        put_varint(&mut out, addresses.len() as u64);
        addresses.iter().for_each(|address| put_bytes(&mut out, address.as_bytes()));
    }
    out
}

/// The members and their addresses.
pub fn decode(bytes: &[u8]) -> Decoded<Vec<(NodeId, Vec<String>)>> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != VERSION {
        return Err(Corruption::UnknownKind);
    }
    let count = reader.len()?;
    if count > MEMBERS_MAX {
        return Err(Corruption::OutOfRange);
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let node = NodeId(reader.array()?);
        let count = reader.len()?;
        if count > ADDRESSES_MAX {
            return Err(Corruption::OutOfRange);
        }
        let addresses = (0..count).map(|_| decode_address(&mut reader)).collect::<Decoded<_>>()?;
        members.push((node, addresses));
    }
    if reader.is_empty() { Ok(members) } else { Err(Corruption::TrailingBytes) }
}

fn decode_address(reader: &mut Reader<'_>) -> Decoded<String> {
    let address = reader.bytes()?;
    if address.len() > ADDRESS_LEN_MAX {
        return Err(Corruption::OutOfRange);
    }
    std::str::from_utf8(address).map(str::to_owned).map_err(|_| Corruption::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_joiner_learns_every_live_member_and_the_addresses_known() {
        let node = |number| NodeId([number; 16]);
        let roster = Roster::first([node(1), node(2)]);
        let address = "10.0.0.1:9".parse().unwrap();
        let book = [Peer { node: node(2), address: Some(address), is_enabled: true }];
        let members = decode(&encode(&roster, &book)).unwrap();
        assert_eq!(members, [(node(1), vec![]), (node(2), vec![address.to_string()])]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            let _ = decode(&bytes);
        }
    }
}
