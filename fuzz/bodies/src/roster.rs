//! The records of a roster, as any member may have written them.

use crate::damage::damage;
use crate::input::Input;
use base::{Incarnation, NodeId, Origin, Stamp, Tick};
use replication::roster::{Life, MEMBERS_MAX, Member, Role, Roster};
use replication::store::Held;
use std::collections::BTreeSet;

/// Reads records. However many there are and whatever is in them, members are bounded and each comes
/// from a record; what was read once more changes nothing.
pub fn roster(data: &[u8]) {
    let mut input = Input::new(data);
    let copies = 1 + input.below(3) * MEMBERS_MAX;
    let mut records = Vec::new();
    while !input.is_empty() {
        let record = record(&mut input);
        // Many records at once, each about another node.
        for copy in 0..copies.min(MEMBERS_MAX + 20) {
            let mut record = Held { key: record.key.clone(), ..clone(&record) };
            let number = (copy as u16).to_le_bytes();
            record.key.iter_mut().rev().zip(number).for_each(|(byte, with)| *byte ^= with);
            records.push(record);
        }
        if records.len() > 4 * MEMBERS_MAX {
            break;
        }
    }
    records.sort_by(|a, b| a.key.cmp(&b.key));
    let mut roster = Roster::default();
    let refused = roster.read(&records);
    let members: BTreeSet<NodeId> = roster.members().map(|(node, _)| node).collect();
    assert!(refused <= records.len() && members.len() <= MEMBERS_MAX);
    let named = |node: &NodeId| records.iter().any(|record| record.key.ends_with(&node.0));
    assert!(members.iter().all(named));
    assert!(roster.authors().all(|author| roster.role(author) == Some(Role::Author)));
    for node in &members {
        assert!(roster.notice(*node).is_some());
        let life = roster.life(*node).map_or(Incarnation(0), |life| life.incarnation);
        let origin = Origin { node: *node, incarnation: life };
        assert!(!(roster.is_current(origin) && roster.must_rejoin(origin)));
    }
    let mut again = roster.clone();
    again.read(&records);
    assert_eq!(again.members().count(), members.len());
    assert_eq!(again.epoch(), roster.epoch());
}

fn clone(record: &Held) -> Held {
    Held { key: record.key.clone(), value: record.value.clone(), stamp: record.stamp }
}

fn record(input: &mut Input<'_>) -> Held {
    let node = NodeId([input.byte(); 16]);
    let member = Member {
        role: Role::from_raw(1 + input.byte() % 3).unwrap_or(Role::Author),
        epoch: u64::from(input.byte()),
        fenced: Some(Incarnation(u64::from(input.byte()))).filter(|life| life.0 != 0),
        addresses: vec!["a".to_owned(); input.below(20)],
        ..Member::new(Role::Author)
    };
    let (mut key, mut value) = match input.byte() % 5 {
        0 => (Member::key(node), member.encode()),
        1 => (Member::first_key(node), member.encode()),
        2 => (Life::key(node), Life::default().renewed(Incarnation(input.number())).encode()),
        3 => (Roster::keys_key(node), input.bytes(300).to_vec()),
        _ => (input.bytes(30).to_vec(), input.bytes(100).to_vec()),
    };
    if input.byte().is_multiple_of(3) {
        damage(&mut value, input);
    }
    if input.byte().is_multiple_of(8) {
        damage(&mut key, input);
    }
    let tick = Tick::from_ms(u64::from(input.byte()));
    Held { key, value, stamp: Stamp { tick, ..Stamp::default() } }
}
