//! The members of a group: who writes, who reads, who was shut out.
//!
//! They live in the keyspace `esker.roster` and are replicated as data are. What operators decide
//! and what a node says about itself are two records, so that neither overwrites the other. So is
//! what nodes write where nothing was decided: a node with a new disk does not know the decisions.
//!
//! ```text
//! key        'm' (1), node (16)          a member, as operators decided
//! key        'f' (1), node (16)          a member, as long as nobody decides; of the same form
//! size       field
//!    1       version       1
//!    1       role          1 author, 2 observer, 3 deprecated
//!    8       epoch         greater than that of all records its writer knew
//!    8       fenced        the incarnation that must rejoin; 0 = none, all ones = any
//!   32       public key    ed25519; zeros = not known
//!    v       addresses     how many, at most 16
//!   per address:
//!    v+*       address     UTF-8, 1..=255 bytes
//!
//! key        'k' (1), node (16)          the changes of a member's key, if there were any
//! size       field
//!    *       changes       signed by the keys themselves; not looked into here, at most 3456 bytes
//!
//! key        'i' (1), node (16)          a life of a member, written by itself
//! size       field
//!    1       version       1
//!    8       incarnation   the present one
//!    v       retired       how many, at most 64, newest last
//!   per retired:
//!    8         incarnation
//! ```

use crate::store::Held;
use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::{Corruption, Incarnation, NodeId, Origin, Stamp};
use std::collections::BTreeMap;

const VERSION: u8 = 1;
const MEMBER: u8 = b'm';
const FIRST: u8 = b'f';
const LIFE: u8 = b'i';
const KEYS: u8 = b'k';
/// Addresses of a member at the most.
pub const ADDRESSES_MAX: usize = 16;
/// Bytes of an address at the most.
pub const ADDRESS_LEN_MAX: usize = 255;
/// Retired incarnations that are remembered.
pub const RETIRED_MAX: usize = 64;
/// Bytes of the changes of a key at the most.
pub const KEYS_LEN_MAX: usize = 3456;
/// Members at the most, and nodes of which lives or changes of keys are remembered before they are members.
pub const MEMBERS_MAX: usize = 256;

/// Whatever life a node turns out to have: who shut it out had never heard of it.
pub const ANY_LIFE: Incarnation = Incarnation(u64::MAX);

/// Whether a fence keeps a life out.
pub(crate) fn is_fenced(fenced: Option<Incarnation>, life: Incarnation) -> bool {
    fenced.is_some_and(|fenced| fenced == life || fenced == ANY_LIFE)
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Writes, and holds every floor until it has confirmed.
    Author = 1,
    /// Only reads, and holds nothing.
    Observer = 2,
    /// Shut out until it is added again, and then it must rejoin.
    Deprecated = 3,
}

impl Role {
    /// The role with this number.
    pub fn from_raw(raw: u8) -> Option<Role> {
        [Role::Author, Role::Observer, Role::Deprecated].into_iter().find(|role| *role as u8 == raw)
    }
}

/// What operators decided about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it may do.
    pub role: Role,
    /// Greater than that of all records its writer knew.
    pub epoch: u64,
    /// The incarnation that must rejoin before it counts again, or [`ANY_LIFE`].
    pub fenced: Option<Incarnation>,
    /// Its ed25519 key; zeros if it is not known.
    pub public_key: [u8; 32],
    /// Where it can be reached.
    pub addresses: Vec<String>,
}

impl Member {
    /// A member about which nothing else is known.
    pub fn new(role: Role) -> Member {
        let (public_key, addresses) = ([0; 32], Vec::new());
        Member { role, epoch: 0, fenced: None, public_key, addresses }
    }

    /// Whether operators decided this.
    pub fn is_decided(&self) -> bool {
        self.epoch > 0
    }

    /// The key of what operators decided about it.
    pub fn key(node: NodeId) -> Vec<u8> {
        [&[MEMBER][..], &node.0].concat()
    }

    /// The key of what it is as long as nobody decides.
    pub fn first_key(node: NodeId) -> Vec<u8> {
        [&[FIRST][..], &node.0].concat()
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.role as u8];
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.fenced.map_or(0, |life| life.0).to_le_bytes());
        out.extend_from_slice(&self.public_key);
        let addresses = self.addresses.iter().take(ADDRESSES_MAX);
        put_varint(&mut out, addresses.len() as u64);
        addresses.for_each(|address| put_bytes(&mut out, address.as_bytes()));
        out
    }

    /// The member that is `bytes`, all of them.
    pub fn decode(bytes: &[u8]) -> Decoded<Member> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader)?;
        let role = Role::from_raw(reader.u8()?).ok_or(Corruption::UnknownKind)?;
        let epoch = reader.u64()?;
        let fenced = Some(Incarnation(reader.u64()?)).filter(|life| life.0 != 0);
        let public_key = reader.array()?;
        let count = reader.len()?;
        if count > ADDRESSES_MAX {
            return Err(Corruption::OutOfRange);
        }
        let addresses =
            (0..count).map(|_| decode_address(&mut reader)).collect::<Decoded<Vec<String>>>()?;
        check_end(&reader)?;
        Ok(Member { role, epoch, fenced, public_key, addresses })
    }
}

fn decode_address(reader: &mut Reader<'_>) -> Decoded<String> {
    let address = reader.bytes()?;
    if address.is_empty() || address.len() > ADDRESS_LEN_MAX {
        return Err(Corruption::OutOfRange);
    }
    std::str::from_utf8(address).map(str::to_owned).map_err(|_| Corruption::OutOfRange)
}

/// A record about a member, as another node is told of it. The greater of two is the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Notice {
    /// Whether an operator decided it.
    pub is_decided: bool,
    /// When; zero if that was only configured.
    pub since: Stamp,
    /// What the member may do.
    pub role: Role,
    /// The incarnation that must rejoin before it counts again.
    pub fenced: Option<Incarnation>,
}

/// What a node says about its lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// The present one.
    pub incarnation: Incarnation,
    /// Those before, newest last: nobody may use them any more.
    pub retired: Vec<Incarnation>,
}

impl Life {
    /// Its key in the keyspace.
    pub fn key(node: NodeId) -> Vec<u8> {
        [&[LIFE][..], &node.0].concat()
    }

    /// The next life after this one.
    pub fn renewed(&self, incarnation: Incarnation) -> Life {
        let mut retired = self.retired.clone();
        retired.retain(|old| *old != incarnation);
        retired.push(self.incarnation);
        let excess = retired.len().saturating_sub(RETIRED_MAX);
        retired.drain(..excess);
        Life { incarnation, retired }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        put_varint(&mut out, self.retired.len() as u64);
        self.retired.iter().for_each(|old| out.extend_from_slice(&old.0.to_le_bytes()));
        out
    }

    /// The life that is `bytes`, all of them.
    pub fn decode(bytes: &[u8]) -> Decoded<Life> {
        let mut reader = Reader::new(bytes);
        check_version(&mut reader)?;
        let incarnation = Incarnation(reader.u64()?);
        let count = reader.len()?;
        if count > RETIRED_MAX {
            return Err(Corruption::OutOfRange);
        }
        let retired = (0..count).map(|_| reader.u64().map(Incarnation)).collect::<Decoded<_>>()?;
        check_end(&reader)?;
        Ok(Life { incarnation, retired })
    }
}

fn check_version(reader: &mut Reader<'_>) -> Decoded<()> {
    if reader.u8()? == VERSION { Ok(()) } else { Err(Corruption::UnknownKind) }
}

fn check_end(reader: &Reader<'_>) -> Decoded<()> {
    if reader.is_empty() { Ok(()) } else { Err(Corruption::TrailingBytes) }
}

/// All members that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    members: BTreeMap<NodeId, (Member, Stamp)>,
    lives: BTreeMap<NodeId, Life>,
    keys: BTreeMap<NodeId, Vec<u8>>,
}

impl Roster {
    /// A first roster, before any record was written: these nodes are authors.
    pub fn first(authors: impl IntoIterator<Item = NodeId>) -> Roster {
        let members =
            authors.into_iter().map(|node| (node, (Member::new(Role::Author), Stamp::default())));
        Roster { members: members.collect(), ..Roster::default() }
    }

    /// Adds records of the keyspace, in the order of keys: decisions come last. Those that are none are
    /// counted and left out: they were admitted like any value, so they can not be refused here.
    pub fn read(&mut self, records: &[Held]) -> usize {
        let refused = records
            .iter()
            .filter(|Held { key, value, stamp }| self.read_one(key, value, *stamp).is_err());
        refused.count()
    }

    /// Adds the next record of the keyspace, in the order of keys. Of what is none, however long, nothing is
    /// kept. Whether any may come behind it: what is no record may be without end.
    pub fn note(&mut self, key: &[u8], value: &[u8], stamp: Stamp) -> bool {
        let _ = self.read_one(key, value, stamp);
        key.first().is_none_or(|kind| *kind <= MEMBER)
    }

    fn read_one(&mut self, key: &[u8], value: &[u8], stamp: Stamp) -> Decoded<()> {
        let mut reader = Reader::new(key);
        let kind = reader.u8()?;
        let node = NodeId(reader.array()?);
        check_end(&reader)?;
        let is_member = self.members.contains_key(&node);
        let has_room = |count: usize| match is_member || count < MEMBERS_MAX {
            true => Ok(()),
            false => Err(Corruption::OutOfRange),
        };
        match kind {
            FIRST | MEMBER => {
                has_room(self.members.len())?;
                self.members.insert(node, (Member::decode(value)?, stamp));
            }
            LIFE => {
                has_room(self.lives.len())?;
                self.lives.insert(node, Life::decode(value)?);
            }
            KEYS if value.len() > KEYS_LEN_MAX => return Err(Corruption::OutOfRange),
            KEYS => {
                has_room(self.keys.len())?;
                self.keys.insert(node, value.to_vec());
            }
            _ => return Err(Corruption::UnknownKind),
        }
        Ok(())
    }

    /// A member.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node).map(|(member, _)| member)
    }

    /// When the node became what it is; zero if that was only configured.
    pub fn since(&self, node: NodeId) -> Stamp {
        self.members.get(&node).map(|(_, stamp)| *stamp).unwrap_or_default()
    }

    /// The record about a node, as another is told of it.
    pub fn notice(&self, node: NodeId) -> Option<Notice> {
        let (member, since) = self.members.get(&node)?;
        let Member { role, fenced, .. } = *member;
        Some(Notice { is_decided: member.is_decided(), since: *since, role, fenced })
    }

    /// The members, by node.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(node, (member, _))| (*node, member))
    }

    /// What a node may do, if it is a member.
    pub fn role(&self, node: NodeId) -> Option<Role> {
        self.member(node).map(|member| member.role)
    }

    /// Those who hold the floor.
    pub fn authors(&self) -> impl Iterator<Item = NodeId> + '_ {
        let is_author = |(_, member): &(NodeId, &Member)| member.role == Role::Author;
        self.members().filter(is_author).map(|(node, _)| node)
    }

    /// The changes of members' keys, as they are written.
    pub fn keys(&self) -> impl Iterator<Item = (NodeId, &[u8])> {
        self.keys.iter().map(|(node, changes)| (*node, changes.as_slice()))
    }

    /// The key of the changes of a member's key.
    pub fn keys_key(node: NodeId) -> Vec<u8> {
        [&[KEYS][..], &node.0].concat()
    }

    /// What is known about the lives of a node.
    pub fn life(&self, node: NodeId) -> Option<&Life> {
        self.lives.get(&node)
    }

    /// Whether the node uses this incarnation now, so that its statements count.
    pub fn is_current(&self, origin: Origin) -> bool {
        let is_fenced = self.must_rejoin(origin);
        let life = self.lives.get(&origin.node);
        !is_fenced && life.is_some_and(|life| life.incarnation == origin.incarnation)
    }

    /// Whether the node used this incarnation once, and does not any more.
    pub fn is_retired(&self, origin: Origin) -> bool {
        let life = self.lives.get(&origin.node);
        life.is_some_and(|life| life.retired.contains(&origin.incarnation))
    }

    /// Whether the node must rejoin before it may go on.
    pub fn must_rejoin(&self, origin: Origin) -> bool {
        let member = self.member(origin.node);
        member.is_some_and(|member| is_fenced(member.fenced, origin.incarnation))
    }

    /// The greatest epoch of any record.
    pub fn epoch(&self) -> u64 {
        self.members().map(|(_, member)| member.epoch).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NODE: NodeId = NodeId([7; 16]);

    fn held(key: Vec<u8>, value: Vec<u8>) -> Held {
        Held { key, value, stamp: Stamp::default() }
    }

    fn any_member() -> impl Strategy<Value = Member> {
        let parts = (1u8..=3, any::<u64>(), any::<u64>(), any::<[u8; 32]>());
        let addresses = proptest::collection::vec("[a-z]{1,20}:[0-9]{1,5}", 0..=ADDRESSES_MAX);
        (parts, addresses).prop_map(|((role, epoch, fenced, public_key), addresses)| Member {
            role: Role::from_raw(role).unwrap(),
            epoch,
            fenced: Some(Incarnation(fenced)).filter(|life| life.0 != 0),
            public_key,
            addresses,
        })
    }

    proptest! {
        #[test]
        fn a_member_comes_back_and_never_from_a_part_of_it(member in any_member(), cut: prop::sample::Index) {
            let bytes = member.encode();
            prop_assert_eq!(Member::decode(&bytes).unwrap(), member);
            prop_assert!(Member::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_life_comes_back_and_remembers_a_bounded_number(lives in proptest::collection::vec(1u64.., 1..100)) {
            let mut life = Life::default();
            for incarnation in lives {
                life = life.renewed(Incarnation(incarnation));
                prop_assert!(life.retired.len() <= RETIRED_MAX);
                prop_assert_eq!(&Life::decode(&life.encode()).unwrap(), &life);
            }
        }

        #[test]
        fn hostile_records_never_panic(key: Vec<u8>, value: Vec<u8>, is_member: bool) {
            let _ = (Member::decode(&value), Life::decode(&value));
            let known = if is_member { Member::key(NODE) } else { Life::key(NODE) };
            let mut roster = Roster::default();
            roster.read(&[held(key, value.clone()), held(known, value)]);
        }
    }

    #[test]
    fn a_fenced_or_retired_life_is_not_current() {
        let life = Life::default().renewed(Incarnation(3)).renewed(Incarnation(4));
        let fenced = Some(Incarnation(4));
        let member = Member { fenced, ..Member::new(Role::Author) };
        let mut roster = Roster::default();
        assert_eq!(roster.read(&[held(Life::key(NODE), life.encode())]), 0);
        let origin = |incarnation| Origin { node: NODE, incarnation: Incarnation(incarnation) };
        assert!(roster.is_current(origin(4)) && !roster.is_current(origin(3)));
        roster.read(&[held(Member::key(NODE), member.encode())]);
        assert!(!roster.is_current(origin(4)) && roster.must_rejoin(origin(4)));
    }

    /// A node with a new disk may write what it was configured with, later than any decision.
    #[test]
    fn what_was_decided_stays_above_what_nobody_decided() {
        let stamp = |tick| Stamp { tick: base::Tick::from_raw(tick).unwrap(), ..Stamp::default() };
        let (out, author) = (Member::new(Role::Deprecated), Member::new(Role::Author));
        let first = Held { key: Member::first_key(NODE), value: author.encode(), stamp: stamp(9) };
        let decided = Held { key: Member::key(NODE), value: out.encode(), stamp: stamp(1) };
        let mut roster = Roster::first([NODE]);
        assert_eq!(roster.read(std::slice::from_ref(&first)), 0);
        assert_eq!((roster.role(NODE), roster.since(NODE)), (Some(Role::Author), stamp(9)));
        assert_eq!(roster.read(&[first, decided]), 0);
        assert_eq!((roster.role(NODE), roster.since(NODE)), (Some(Role::Deprecated), stamp(1)));
    }

    #[test]
    fn members_beyond_the_limit_are_left_out() {
        let record = |of: usize| {
            let node = NodeId((of as u128).to_be_bytes());
            held(Member::key(node), Member::new(Role::Observer).encode())
        };
        let records: Vec<_> = (0..MEMBERS_MAX + 5).map(record).collect();
        assert_eq!(Roster::default().read(&records), 5);
    }

    /// Others may write them, about nodes that do not exist.
    #[test]
    fn lives_and_keys_beyond_the_limit_are_left_out_but_for_those_of_members() {
        let node = |of: usize| NodeId((of as u128).to_be_bytes());
        let last = node(2 * MEMBERS_MAX);
        for record in [
            |node| held(Life::key(node), Life::default().encode()),
            |node| held(Roster::keys_key(node), b"changes".to_vec()),
        ] {
            let mut roster = Roster::first([last]);
            let records: Vec<_> = (0..MEMBERS_MAX + 5).map(|of| record(node(of))).collect();
            assert_eq!(roster.read(&records), 5);
            assert_eq!(roster.read(&[record(last)]), 0);
        }
    }

    #[test]
    fn nothing_is_kept_of_what_is_no_record_nor_asked_for_behind_the_last() {
        let mut roster = Roster::default();
        let junk = vec![1; 1 << 20];
        for kind in [FIRST, LIFE, KEYS, MEMBER] {
            let (key, long) = ([&[kind][..], &NODE.0].concat(), [&[kind][..], &junk].concat());
            for (key, value) in [(&key, &junk), (&long, &junk), (&long, &Life::default().encode())]
            {
                assert!(roster.note(key, value, Stamp::default()));
            }
        }
        assert_eq!(roster, Roster::default());
        assert!(!roster.note(b"n", b"", Stamp::default()));
    }
}
