//! Frames of a session, packed and not.

use crate::damage::damage;
use crate::input::Input;
use replication::protocol::frame::{Channel, Extent, FRAME_LEN_MAX, Kind, Lane, PAYLOAD_LEN_MAX};

/// A damaged frame is an error or the truth; hostile bytes are an error, or no longer than a frame.
pub fn lane(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut writer, mut reader) = (lane_of(&mut input.clone()), lane_of(&mut input));
    let payload = input.bytes(64).repeat(1 + input.below(2000));
    let payload = &payload[..payload.len().min(PAYLOAD_LEN_MAX)];
    let genuine = writer.seal(Kind::DeltaChunk, Extent::Whole, &[payload]);
    assert!(genuine.len() <= FRAME_LEN_MAX);
    let mut bytes = genuine;
    damage(&mut bytes, &mut input);
    match reader.open(&bytes) {
        Ok(frame) => assert!(frame.payload == payload),
        Err(error) => assert!(error.number() > 0),
    }
    if let Ok(frame) = reader.open(input.rest()) {
        assert!(frame.payload.len() <= PAYLOAD_LEN_MAX);
    }
}

fn lane_of(input: &mut Input<'_>) -> Lane {
    let mut lane = Lane::new(Channel::Bulk);
    if !input.byte().is_multiple_of(4) {
        lane.allow_packing();
    }
    lane
}
