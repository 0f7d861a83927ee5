//! What packing saves on the wire, and what it costs on a machine that does nothing else:
//! `cargo run -p esker-replication --example packing`. A line for text, and one for bytes that can not
//! be packed.

#![allow(clippy::print_stdout, reason = "it prints its result")]

use replication::protocol::frame::{Channel, Extent, Kind, Lane};
use std::time::{Duration, Instant};

/// About the bytes of a shipment.
const PAYLOAD_LEN: usize = 256 << 10;
/// Bytes that each line is about at least.
const BYTES_MIN: usize = 64 << 20;

fn main() {
    let text = include_bytes!("../../node/data/ucd/UnicodeData.txt");
    let mut noise = vec![0; 8 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    tell("Unicode data", text);
    tell("noise", &noise);
}

fn tell(what: &str, bytes: &[u8]) {
    let (plain, _, seal_plain, open_plain) = pass(bytes, Lane::new);
    let packing = |channel| {
        let mut lane = Lane::new(channel);
        lane.allow_packing();
        lane
    };
    let (all, sent, seal, open) = pass(bytes, packing);
    let per_gb = |with: Duration, without: Duration| {
        with.saturating_sub(without).as_secs_f64() * 1e9 / plain as f64
    };
    println!(
        "{what}: {:.1} MB become {:.1} MB; {:.2} s a GB to pack, {:.2} s a GB to unpack",
        all as f64 / 1e6,
        sent as f64 / 1e6,
        per_gb(seal, seal_plain),
        per_gb(open, open_plain),
    );
}

/// Bytes of payloads and of frames, and how long sealing and opening took.
fn pass(bytes: &[u8], lane: impl Fn(Channel) -> Lane) -> (usize, usize, Duration, Duration) {
    let (mut writer, mut reader) = (lane(Channel::Tail), lane(Channel::Tail));
    let times = BYTES_MIN.div_ceil(bytes.len().max(1));
    let payloads = || (0..times).flat_map(|_| bytes.chunks(PAYLOAD_LEN));
    let began = Instant::now();
    let seal = |payload| writer.seal(Kind::Shipment, Extent::Whole, &[payload]);
    let frames: Vec<Vec<u8>> = payloads().map(seal).collect();
    let sealing = began.elapsed();
    let began = Instant::now();
    for (frame, payload) in frames.iter().zip(payloads()) {
        let len = reader.open(frame).map(|opened| opened.payload.len());
        assert_eq!(len.ok(), Some(payload.len()), "a frame did not come back");
    }
    let opening = began.elapsed();
    let sent = frames.iter().map(Vec::len).sum();
    (bytes.len() * times, sent, sealing, opening)
}
