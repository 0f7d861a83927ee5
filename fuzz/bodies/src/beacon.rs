//! What is heard on the local network: beacons, damaged ones, and anything else.

use crate::damage::damage;
use crate::input::Input;
use base::NodeId;
use replication::discovery::{
    ADDRESSES_MAX, Beacon, Heard, Neighbours, SOURCE_MAX, STRANGERS_MAX, mark_of,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

const GROUP: [u8; 16] = [5; 16];
const EXPIRY: Duration = Duration::from_secs(15);

/// Whatever is heard in whatever order, what decodes comes back, nobody is heard who did not say so, and
/// the bounds hold.
pub fn beacon(data: &[u8]) {
    let mut input = Input::new(data);
    let members: BTreeSet<NodeId> = (1..=8).map(|number| NodeId([number; 16])).collect();
    let mut neighbours = Neighbours::new(NodeId([0; 16]), EXPIRY);
    neighbours.belong(GROUP, members.clone());
    let mut now = Duration::ZERO;
    while !input.is_empty() {
        now += Duration::from_millis(input.below(4000) as u64);
        let node = NodeId([input.byte() % 64; 16]);
        let port = u16::from(input.byte()) + 1;
        let mut bytes = Beacon { mark: mark_of(GROUP), node, port }.encode().to_vec();
        damage(&mut bytes, &mut input);
        let source = SocketAddr::from(([10, 0, 0, input.byte() % 8], 50_000));
        let decoded = Beacon::decode(&bytes);
        if let Ok(beacon) = decoded {
            assert_eq!(beacon.encode()[..], bytes[..]);
        }
        if let Ok(Heard::New(it)) = neighbours.hear(&bytes, source, now) {
            let said = decoded.expect("only beacons are heard");
            assert_eq!((it.node, it.address.port()), (said.node, said.port));
            assert_eq!((it.address.ip(), said.mark), (source.ip(), mark_of(GROUP)));
        }
        check(&mut neighbours, &members, now);
    }
    if let Ok(beacon) = Beacon::decode(data) {
        assert_eq!(beacon.encode()[..], *data);
    }
}

fn check(neighbours: &mut Neighbours, members: &BTreeSet<NodeId>, now: Duration) {
    let shown = neighbours.sightings(now);
    assert!(shown.iter().all(|it| it.heard_at + EXPIRY > now));
    let strangers = shown.iter().filter(|it| !members.contains(&it.node)).count();
    assert!(strangers <= STRANGERS_MAX);
    for it in &shown {
        assert!(shown.iter().filter(|other| other.node == it.node).count() <= ADDRESSES_MAX);
        let from = shown.iter().filter(|other| other.address.ip() == it.address.ip()).count();
        assert!(from <= SOURCE_MAX);
    }
    assert!(neighbours.addresses(now).keys().all(|node| members.contains(node)));
}
