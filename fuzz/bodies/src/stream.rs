//! Streams of a connection: frames cut into any pieces, genuine ones that were damaged, and hostile
//! bytes.

use crate::damage::damage;
use crate::input::Input;
use replication::link::{FRAME_LEN_MAX, FrameDecoder, LinkError};

/// Decodes a stream. Of an undamaged one all frames come back, and memory keeps to the limit.
pub fn stream(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => hostile_bytes(&mut input),
        1 => genuine(&mut input),
        _ => damaged(&mut input),
    }
}

fn hostile_bytes(input: &mut Input<'_>) {
    let len_max = 1 + input.below(4096);
    let mut decoder = FrameDecoder::new(len_max);
    let pieces = Input::new(input.take(32));
    if let Ok(frames) = feed(&mut decoder, input.rest(), pieces) {
        assert!(frames.iter().all(|frame| (1..=len_max).contains(&frame.len())));
        let _ = decoder.end();
    }
    assert!(decoder.room() <= len_max);
}

fn genuine(input: &mut Input<'_>) {
    let frames = frames(input);
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    let read = feed(&mut decoder, &encoded(&frames), input.clone()).unwrap();
    assert_eq!(read, frames);
    decoder.end().unwrap();
}

fn damaged(input: &mut Input<'_>) {
    let mut bytes = encoded(&frames(input));
    damage(&mut bytes, input);
    let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
    if let Ok(frames) = feed(&mut decoder, &bytes, input.clone()) {
        let read = encoded(&frames);
        assert!(bytes.starts_with(&read), "frames are what was in the stream");
        assert_eq!(decoder.end().is_ok(), bytes.len() == read.len());
    }
}

fn frames(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    (0..input.below(5)).map(|_| vec![input.byte(); 1 + input.below(700)]).collect()
}

fn encoded(frames: &[Vec<u8>]) -> Vec<u8> {
    let one = |frame: &Vec<u8>| [&(frame.len() as u32).to_le_bytes()[..], frame].concat();
    frames.iter().flat_map(one).collect()
}

/// Feeds `bytes` in pieces whose lengths `pieces` says.
fn feed(
    decoder: &mut FrameDecoder,
    mut bytes: &[u8],
    mut pieces: Input<'_>,
) -> Result<Vec<Vec<u8>>, LinkError> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let piece = 1 + pieces.below(256);
        let (now, rest) = bytes.split_at(piece.min(decoder.wants()).min(bytes.len()));
        frames.extend(decoder.feed(now)?);
        bytes = rest;
    }
    Ok(frames)
}
