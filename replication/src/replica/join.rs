//! What a node that joins is told: who is in the group, and where.
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

use super::book::Peer;
use crate::roster::{ADDRESS_LEN_MAX, ADDRESSES_MAX, MEMBERS_MAX, Role, Roster};
use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::{Corruption, NodeId};

const VERSION: u8 = 1;

/// The members who are not fenced, with the addresses of the roster and of our own book.
pub(super) fn encode(roster: &Roster, book: &[Peer]) -> Vec<u8> {
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
