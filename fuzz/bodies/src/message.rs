//! What two nodes say to each other, and the records of a roster: hostile bytes behind digests that
//! are right.

use crate::damage::damage;
use crate::input::Input;
use replication::protocol::bulk::Bulk;
use replication::protocol::frame::{CONTROL_LEN_MAX, Kind};
use replication::protocol::message::Message;
use replication::roster::{Life, Member};

const CONTROL: [Kind; 8] = [
    Kind::Hello,
    Kind::HelloAck,
    Kind::Subscribe,
    Kind::Offer,
    Kind::Want,
    Kind::Statement,
    Kind::Heartbeat,
    Kind::Goodbye,
];
const BULK: [Kind; 5] =
    [Kind::DeltaHead, Kind::DeltaChunk, Kind::DeltaEnd, Kind::TablesHead, Kind::FileBytes];

/// Decodes a message. One that decodes comes back from its own bytes, which are of bounded length;
/// damaged again it is an error or another message.
pub fn message(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => control(&mut input),
        1 => bulk(&mut input),
        _ => records(&mut input),
    }
}

fn control(input: &mut Input<'_>) {
    let kind = CONTROL[input.below(CONTROL.len())];
    let Ok(message) = Message::decode(kind, input.clone().rest()) else { return };
    let mut bytes = message.encode().unwrap().to_vec();
    assert!(bytes.len() <= CONTROL_LEN_MAX);
    assert_eq!(Message::decode(kind, &bytes).unwrap(), message);
    damage(&mut bytes, input);
    let _ = Message::decode(kind, &bytes);
}

fn bulk(input: &mut Input<'_>) {
    let kind = BULK[input.below(BULK.len())];
    let bytes = input.rest();
    if let Ok((round, bulk)) = Bulk::decode(kind, bytes) {
        assert_eq!(bulk.kind(), kind);
        assert_eq!(bulk.encode(round), bytes, "a payload has one encoding");
    }
}

fn records(input: &mut Input<'_>) {
    let bytes = input.rest();
    if let Ok(member) = Member::decode(bytes) {
        assert_eq!(Member::decode(&member.encode()), Ok(member));
    }
    if let Ok(life) = Life::decode(bytes) {
        assert_eq!(Life::decode(&life.encode()), Ok(life));
    }
}
