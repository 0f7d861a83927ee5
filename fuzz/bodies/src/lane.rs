//! Frames of a session: packed and not, digested whole and but for what verifies itself.

use crate::damage::damage;
use crate::input::Input;
use replication::protocol::frame::{Channel, Extent, FRAME_LEN_MAX, Kind, Lane, PAYLOAD_LEN_MAX};

/// Bytes of a chunk before what its own digest covers: its round.
const ROUND_LEN: usize = 4;
const OWN_DIGEST_LEN: usize = 32;
/// The bit of a frame whose digest leaves out what the payload's own covers.
const SELF_VERIFYING: u8 = 4;

/// A damaged frame is an error or the truth, or its payload's own digest says that it is damaged; hostile
/// bytes are an error, or no longer than a frame.
pub fn lane(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut writer, mut reader) = (lane_of(&mut input.clone()), lane_of(&mut input));
    let payload = payload(&mut input);
    let genuine = writer.seal(Kind::DeltaChunk, Extent::Whole, &[&payload]);
    assert!(genuine.len() <= FRAME_LEN_MAX && verifies(&payload));
    let mut bytes = genuine;
    damage(&mut bytes, &mut input);
    match reader.open(&bytes) {
        Ok(frame) if frame.payload == payload => {}
        Ok(frame) => assert!(bytes[2] & SELF_VERIFYING != 0 && !verifies(&frame.payload)),
        Err(error) => assert!(error.number() > 0),
    }
    if let Ok(frame) = reader.open(input.rest()) {
        assert!(frame.payload.len() <= PAYLOAD_LEN_MAX);
    }
}

/// A round, and behind it what ends in its own digest.
fn payload(input: &mut Input<'_>) -> Vec<u8> {
    let mut body = input.bytes(64).repeat(1 + input.below(2000));
    body.truncate(PAYLOAD_LEN_MAX - ROUND_LEN - OWN_DIGEST_LEN);
    let digest = blake3::hash(&body);
    [&[1; ROUND_LEN], &body[..], digest.as_bytes()].concat()
}

fn verifies(payload: &[u8]) -> bool {
    let body = payload.get(ROUND_LEN..).and_then(|body| body.split_last_chunk::<OWN_DIGEST_LEN>());
    body.is_some_and(|(body, digest)| blake3::hash(body).as_bytes() == digest)
}

fn lane_of(input: &mut Input<'_>) -> Lane {
    let mut lane = Lane::new(Channel::Bulk);
    let first = input.byte();
    if !first.is_multiple_of(4) {
        lane.allow_packing();
    }
    if !(first / 4).is_multiple_of(2) {
        lane.allow_self_verifying();
    }
    lane
}
