//! Who was heard on the local network, and where. Touches no socket and no clock.
//!
//! What is heard is kept for members of the group, and, to be shown to operators, for a few others that
//! know its mark: nodes that were removed, or that joined elsewhere a moment ago.
//!
//! Invariants, whatever is heard:
//! - A member has at most [`ADDRESSES_MAX`] addresses, all others together [`STRANGERS_MAX`] entries,
//!   and one source at most [`SOURCE_MAX`].
//! - What is there is not driven out by what comes: it goes when it falls silent.

use super::beacon::{BEACON_LEN, Beacon, GroupMark, mark_of};
use crate::group::GroupId;
use base::{Corruption, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses of a member that are kept.
pub const ADDRESSES_MAX: usize = 4;
/// Entries about nodes that are no members.
pub const STRANGERS_MAX: usize = 32;
/// Entries that come from one address.
pub const SOURCE_MAX: usize = 16;

/// A node that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who it says it is.
    pub node: NodeId,
    /// Where it says it listens.
    pub address: SocketAddr,
    /// When it was heard last.
    pub heard_at: Duration,
}

/// What a datagram was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A node of the group that was not known to be at this address.
    New(Sighting),
    /// One that is still there.
    Again,
    /// What this node has said itself.
    Own,
    /// A beacon of another group.
    Foreign,
}

/// Why a datagram was not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// It is no beacon.
    Malformed(Corruption),
    /// It comes from an address that nobody can be dialed at.
    Source,
    /// There is no room for another address of this node, or from this source.
    Full,
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unheard::Malformed(found) => write!(f, "it is no beacon: {found}"),
            Unheard::Source => f.write_str("nobody can be dialed at the address it comes from"),
            Unheard::Full => f.write_str("the node, or the source, has too many addresses already"),
        }
    }
}

/// What was sent and heard so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Beacons sent.
    pub sent: u64,
    /// Beacons that could not be sent.
    pub unsent: u64,
    /// Beacons of others of this group.
    pub heard: u64,
    /// Beacons of other groups.
    pub foreign: u64,
    /// Datagrams that were not listened to.
    pub refused: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Neighbours {
    own: NodeId,
    expiry: Duration,
    mark: Option<GroupMark>,
    members: BTreeSet<NodeId>,
    /// When each was heard last.
    sightings: BTreeMap<(NodeId, SocketAddr), Duration>,
    counts: Counts,
}

impl Neighbours {
    /// Nobody was heard yet. A node that is silent for `expiry` is gone.
    pub fn new(own: NodeId, expiry: Duration) -> Neighbours {
        Neighbours {
            own,
            expiry,
            mark: None,
            members: BTreeSet::new(),
            sightings: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Whose beacons count from now on: those of `group`, above all of these `members`.
    pub fn belong(&mut self, group: GroupId, members: BTreeSet<NodeId>) {
        let mark = Some(mark_of(group));
        if self.mark != mark {
            self.sightings.clear();
            self.mark = mark;
        }
        self.members = members;
        // Members that were removed are strangers now.
        let excess = self.strangers().count().saturating_sub(STRANGERS_MAX);
        let excess: BTreeSet<_> = self.strangers().take(excess).collect();
        self.sightings.retain(|key, _| !excess.contains(key));
    }

    /// What this node says, listening at `port`; nothing as long as it has no group.
    pub fn beacon(&self, port: u16) -> Option<[u8; BEACON_LEN]> {
        Some(Beacon { mark: self.mark?, node: self.own, port }.encode())
    }

    /// Notes whether a beacon was sent.
    pub fn note_sent<T, E>(&mut self, sent: &Result<T, E>) {
        match sent {
            Ok(_) => self.counts.sent += 1,
            Err(_) => self.counts.unsent += 1,
        }
    }

    /// Takes a datagram that came from `source`.
    pub fn hear(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        now: Duration,
    ) -> Result<Heard, Unheard> {
        let heard = self.take(datagram, source, now);
        match heard {
            Ok(Heard::New(_) | Heard::Again) => self.counts.heard += 1,
            Ok(Heard::Own) => {}
            Ok(Heard::Foreign) => self.counts.foreign += 1,
            Err(_) => self.counts.refused += 1,
        }
        heard
    }

    fn take(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        now: Duration,
    ) -> Result<Heard, Unheard> {
        let beacon = Beacon::decode(datagram).map_err(Unheard::Malformed)?;
        if self.mark != Some(beacon.mark) {
            return Ok(Heard::Foreign);
        }
        if beacon.node == self.own {
            return Ok(Heard::Own);
        }
        if !is_dialable(source.ip()) {
            return Err(Unheard::Source);
        }
        let (node, address) = (beacon.node, SocketAddr::new(source.ip(), beacon.port));
        self.forget_silent(now);
        if let Some(heard_at) = self.sightings.get_mut(&(node, address)) {
            *heard_at = now;
            return Ok(Heard::Again);
        }
        if !self.has_room_for(node, source.ip()) {
            return Err(Unheard::Full);
        }
        self.sightings.insert((node, address), now);
        Ok(Heard::New(Sighting { node, address, heard_at: now }))
    }

    fn has_room_for(&self, node: NodeId, source: IpAddr) -> bool {
        let of_node = self.sightings.keys().filter(|(known, _)| *known == node).count();
        let of_source = self.sightings.keys().filter(|(_, address)| address.ip() == source).count();
        let is_allowed = self.is_member(node) || self.strangers().count() < STRANGERS_MAX;
        is_allowed && of_node < ADDRESSES_MAX && of_source < SOURCE_MAX
    }

    fn forget_silent(&mut self, now: Duration) {
        let expiry = self.expiry;
        self.sightings.retain(|_, heard_at| now < heard_at.saturating_add(expiry));
    }

    fn strangers(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        self.sightings.keys().filter(|(node, _)| !self.is_member(*node)).copied()
    }

    /// Whether the group has this node.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.members.contains(&node)
    }

    /// All that were heard and have not fallen silent, by node.
    pub fn sightings(&mut self, now: Duration) -> Vec<Sighting> {
        self.forget_silent(now);
        let sighting = |(key, heard_at): (&(NodeId, SocketAddr), &Duration)| {
            let (node, address) = *key;
            Sighting { node, address, heard_at: *heard_at }
        };
        self.sightings.iter().map(sighting).collect()
    }

    /// Where each member may be.
    pub fn addresses(&mut self, now: Duration) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        let mut all: BTreeMap<NodeId, Vec<SocketAddr>> = BTreeMap::new();
        for Sighting { node, address, .. } in self.sightings(now) {
            if self.is_member(node) {
                all.entry(node).or_default().push(address);
            }
        }
        all
    }

    /// What was sent and heard so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// Whether one machine can have this address.
fn is_dialable(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::NO_GROUP;
    use proptest::prelude::*;

    const OWN: NodeId = NodeId([0; 16]);
    const GROUP: GroupId = [7; 16];
    const EXPIRY: Duration = Duration::from_secs(15);

    fn node(number: u8) -> NodeId {
        NodeId([number; 16])
    }

    fn source(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 50_000))
    }

    fn said(group: GroupId, by: NodeId, port: u16) -> [u8; BEACON_LEN] {
        Beacon { mark: mark_of(group), node: by, port }.encode()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn neighbours(members: impl IntoIterator<Item = u8>) -> Neighbours {
        let mut neighbours = Neighbours::new(OWN, EXPIRY);
        neighbours.belong(GROUP, members.into_iter().map(node).collect());
        neighbours
    }

    #[test]
    fn a_member_is_where_its_beacons_come_from_until_it_is_silent() {
        let mut neighbours = neighbours([1]);
        let address: SocketAddr = "10.0.0.9:7400".parse().unwrap();
        let heard = neighbours.hear(&said(GROUP, node(1), 7400), source(9), seconds(1));
        let new = Sighting { node: node(1), address, heard_at: seconds(1) };
        assert_eq!(heard, Ok(Heard::New(new)));
        let heard = neighbours.hear(&said(GROUP, node(1), 7400), source(9), seconds(6));
        assert_eq!(heard, Ok(Heard::Again));
        assert_eq!(neighbours.addresses(seconds(20)), BTreeMap::from([(node(1), vec![address])]));
        assert_eq!(neighbours.addresses(seconds(21)), BTreeMap::new());
    }

    #[test]
    fn other_groups_and_what_this_node_says_are_not_neighbours() {
        let mut neighbours = neighbours([1]);
        let foreign = neighbours.hear(&said([8; 16], node(1), 1), source(1), seconds(0));
        assert_eq!(foreign, Ok(Heard::Foreign));
        let own = neighbours.beacon(1).unwrap();
        assert_eq!(neighbours.hear(&own, source(1), seconds(0)), Ok(Heard::Own));
        assert_eq!(neighbours.sightings(seconds(0)), []);
        let counts = Counts { foreign: 1, ..Counts::default() };
        assert_eq!(neighbours.counts(), counts);
    }

    #[test]
    fn a_node_without_a_group_says_nothing_and_hears_nobody() {
        let mut neighbours = Neighbours::new(OWN, EXPIRY);
        assert_eq!(neighbours.beacon(1), None);
        let heard = neighbours.hear(&said(NO_GROUP, node(1), 1), source(1), seconds(0));
        assert_eq!(heard, Ok(Heard::Foreign));
    }

    #[test]
    fn addresses_that_no_machine_has_are_refused() {
        let mut neighbours = neighbours([1]);
        for source in ["0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "[::]:1", "[ff02::1]:1"] {
            let heard = neighbours.hear(&said(GROUP, node(1), 1), source.parse().unwrap(), EXPIRY);
            assert_eq!(heard, Err(Unheard::Source), "{source}");
        }
        assert_eq!(neighbours.counts().refused, 5);
    }

    /// Whoever lies can not drive out what is true, as long as that is heard.
    #[test]
    fn liars_take_the_places_that_are_free_and_no_others() {
        let mut neighbours = neighbours([1, 2]);
        let honest = said(GROUP, node(1), 7400);
        neighbours.hear(&honest, source(1), seconds(0)).unwrap();
        for port in 1..100 {
            let _ = neighbours.hear(&said(GROUP, node(1), port), source(66), seconds(1));
        }
        let addresses = neighbours.addresses(seconds(2));
        assert_eq!(addresses[&node(1)].len(), ADDRESSES_MAX);
        assert!(addresses[&node(1)].contains(&"10.0.0.1:7400".parse().unwrap()));
        assert_eq!(neighbours.hear(&honest, source(1), seconds(3)), Ok(Heard::Again));
        // And the other member is not kept out.
        let other = neighbours.hear(&said(GROUP, node(2), 7400), source(2), seconds(3));
        assert!(matches!(other, Ok(Heard::New(_))));
    }

    #[test]
    fn strangers_are_shown_and_never_dialed_and_are_few() {
        let mut neighbours = neighbours([1]);
        for number in 2..200 {
            let from = SocketAddr::from(([10, 0, 1, number], 1));
            let _ = neighbours.hear(&said(GROUP, node(number), 1), from, seconds(0));
        }
        assert_eq!(neighbours.sightings(seconds(0)).len(), STRANGERS_MAX);
        assert!(neighbours.addresses(seconds(0)).is_empty());
        let member = neighbours.hear(&said(GROUP, node(1), 1), source(1), seconds(0));
        assert!(matches!(member, Ok(Heard::New(_))), "strangers take no place of a member");
    }

    #[test]
    fn a_group_that_is_joined_begins_with_nobody() {
        let mut neighbours = neighbours([1]);
        neighbours.hear(&said(GROUP, node(1), 1), source(1), seconds(0)).unwrap();
        neighbours.belong([9; 16], BTreeSet::from([node(1)]));
        assert_eq!(neighbours.sightings(seconds(0)), []);
    }

    /// One thing that happens.
    #[derive(Clone, Debug)]
    enum Step {
        Hear { group: u8, node: u8, port: u16, source: u8 },
        Garbage(Vec<u8>),
        Wait(u64),
        Belong(BTreeSet<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let hear = (7u8..9, 0u8..60, 1u16..4, 0u8..8)
            .prop_map(|(group, node, port, source)| Step::Hear { group, node, port, source });
        prop_oneof![
            40 => hear,
            1 => any::<Vec<u8>>().prop_map(Step::Garbage),
            4 => (0u64..6).prop_map(Step::Wait),
            1 => proptest::collection::btree_set(1u8..60, 0..20).prop_map(Step::Belong),
        ]
    }

    proptest! {
        /// A model that keeps everything that was accepted says the same, and the bounds hold at any time.
        #[test]
        fn what_is_shown_was_heard_lately_and_is_bounded(
            steps in proptest::collection::vec(step(), 1..400),
        ) {
            let (mut neighbours, mut now) = (neighbours([1, 2, 3]), Duration::ZERO);
            let mut accepted: BTreeMap<(NodeId, SocketAddr), Duration> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Hear { group, node: number, port, source: last } => {
                        let datagram = said([group; 16], node(number), port);
                        let key = (node(number), SocketAddr::new(source(last).ip(), port));
                        match neighbours.hear(&datagram, source(last), now) {
                            Ok(Heard::New(_)) => {
                                let before = accepted.insert(key, now);
                                prop_assert!(before.is_none_or(|at| now >= at + EXPIRY));
                            }
                            Ok(Heard::Again) => prop_assert!(accepted.insert(key, now).is_some()),
                            Ok(Heard::Own) => prop_assert_eq!(number, 0),
                            Ok(Heard::Foreign) => prop_assert_eq!(group, 8),
                            Err(refused) => prop_assert_eq!(refused, Unheard::Full),
                        }
                    }
                    Step::Garbage(bytes) => {
                        prop_assert!(neighbours.hear(&bytes, source(1), now).is_err());
                    }
                    Step::Wait(time) => now += seconds(time),
                    Step::Belong(members) => {
                        neighbours.belong(GROUP, members.into_iter().map(node).collect());
                        // What was cut off to keep the bound is not heard any more.
                        let left = neighbours.sightings(now);
                        accepted.retain(|key, _| left.iter().any(|it| (it.node, it.address) == *key));
                    }
                }
                accepted.retain(|_, at| now < *at + EXPIRY);
                let shown = neighbours.sightings(now);
                let expected: Vec<Sighting> = accepted
                    .iter()
                    .map(|((node, address), at)| Sighting { node: *node, address: *address, heard_at: *at })
                    .collect();
                prop_assert_eq!(&shown, &expected);
                let strangers = shown.iter().filter(|it| !neighbours.is_member(it.node)).count();
                prop_assert!(strangers <= STRANGERS_MAX);
                for it in &shown {
                    let of_node = shown.iter().filter(|other| other.node == it.node).count();
                    let from = |other: &&Sighting| other.address.ip() == it.address.ip();
                    prop_assert!(of_node <= ADDRESSES_MAX && shown.iter().filter(from).count() <= SOURCE_MAX);
                }
            }
        }
    }
}
