//! The log: hostile segments, genuine ones that were damaged, and hostile frames that verify.

use crate::damage::damage;
use crate::input::Input;
use base::frame::{self, FrameHeader, FrameKind};
use base::fs::{Fs, SimFs};
use base::rng::SeededRng;
use base::{FileName, Origin, Position, RelPath, Tick};
use std::sync::Arc;
use wal::{Appender, HEADER_LEN, LogOptions, SegmentOwner};

const DATABASE: [u8; 16] = [7; 16];

/// What was appended: seqno and payload.
type Commits = Vec<(Tick, Vec<u8>)>;

/// Reads a log. Of one that was damaged, the commits read are the first of those written.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => hostile_bytes(&mut input),
        1 => damaged_log(&mut input),
        _ => hostile_frames(&mut input),
    }
}

/// Behind a genuine header stands anything; or the header itself is anything.
fn hostile_bytes(input: &mut Input<'_>) {
    let (fs, _) = genuine(&mut Input::new(&[]));
    let path = FileName::Segment(1).path();
    let mut bytes = fs.read_file(&path).unwrap();
    bytes.truncate(input.below(2) * HEADER_LEN as usize);
    bytes.extend_from_slice(input.rest());
    fs.write_file(&path, bytes).unwrap();
    assert_eq!(read_segment(&fs, 1), [], "nobody knows the key");
}

fn damaged_log(input: &mut Input<'_>) {
    let (fs, written) = genuine(input);
    let segments = segments(&fs);
    let number = segments[input.below(segments.len())];
    let path = FileName::Segment(number).path();
    let mut bytes = fs.read_file(&path).unwrap();
    damage(&mut bytes, input);
    fs.write_file(&path, bytes).unwrap();

    for number in &segments {
        let read = read_segment(&fs, *number);
        let is_written = |commit| written.contains(commit);
        assert!(read.iter().all(is_written), "a commit that nobody wrote");
    }
    if let Ok(scan) = wal::scan_log(&fs, DATABASE, &segments, 1, Position::ZERO) {
        let mut read = Commits::new();
        let replayed = scan.replay(&fs, |seqno, _, payload| {
            read.push((seqno, payload.to_vec()));
            Ok(())
        });
        replayed.unwrap();
        assert_eq!(scan.commits(), read.len() as u64);
        assert!(written.starts_with(&read), "what is read are the first of those written");
    }
}

/// Frames with the right key and any fields.
fn hostile_frames(input: &mut Input<'_>) {
    let (fs, _) = genuine(&mut Input::new(&[]));
    let path = FileName::Segment(1).path();
    let mut bytes = fs.read_file(&path).unwrap();
    bytes.truncate(HEADER_LEN as usize);
    let reader = wal::read_segment(&fs, 1, DATABASE, None).unwrap();
    let (key, mut previous) = (reader.header().key(), reader.header().digest);
    while !input.is_empty() {
        let choice = input.byte();
        let kinds = [FrameKind::Commit, FrameKind::Run, FrameKind::Close, FrameKind::Seal];
        let tick = |input: &mut Input<'_>| Tick::from_raw(input.number() >> 8).unwrap_or_default();
        let header = FrameHeader {
            kind: kinds[usize::from(choice & 3)],
            payload_len: 0,
            offset: if choice & 4 == 0 { bytes.len() as u64 } else { input.number() },
            first_seqno: tick(input),
            last_seqno: tick(input),
            promise: Position { segment: input.number(), offset: input.number() },
            previous: if choice & 8 == 0 { previous } else { [0; 16] },
        };
        let payload = input.bytes(200);
        let header = FrameHeader { payload_len: payload.len() as u32, ..header };
        previous = frame::encode(&mut bytes, &key, &header, payload);
        if choice & 16 != 0 {
            bytes.extend_from_slice(input.bytes(100));
        }
    }
    fs.write_file(&path, bytes).unwrap();
    read_segment(&fs, 1);
    let _ = wal::scan_log(&fs, DATABASE, &[1], 1, Position::ZERO);
}

/// A log that `input` writes, in segments of the smallest size.
fn genuine(input: &mut Input<'_>) -> (SimFs, Commits) {
    let fs = SimFs::new(1);
    fs.create_dir(&RelPath::folder(base::dir::WAL_DIR)).unwrap();
    let owner = SegmentOwner { database: DATABASE, origin: Origin::default(), generation: 1 };
    let options = LogOptions { segment_bytes: 4096 };
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut log = Appender::create(shared, &SeededRng::new(3), owner, 1, None, options).unwrap();
    let mut written = Commits::new();
    for _ in 0..input.below(24) {
        match input.below(5) {
            0 => {
                let target = log.prepare_sync().unwrap();
                target.sync().unwrap();
                log.synced(&target);
            }
            1 => drop(log.seal().unwrap()),
            2 => log.close_run().unwrap(),
            _ => {
                let seqno = Tick::from_ms(1 + written.len() as u64);
                let payload = vec![input.byte(); input.below(3000)];
                log.append(seqno, &payload).unwrap();
                written.push((seqno, payload));
            }
        }
    }
    if input.below(2) == 1 {
        log.finish().unwrap();
    }
    (fs, written)
}

fn segments(fs: &SimFs) -> Vec<u64> {
    let number = |path: RelPath| match FileName::parse(path.as_str()) {
        Some(FileName::Segment(number)) => Some(number),
        _ => None,
    };
    fs.files().into_iter().filter_map(number).collect()
}

/// The commits of a segment up to where its reader stops.
fn read_segment(fs: &SimFs, number: u64) -> Commits {
    let mut read = Commits::new();
    let Ok(mut reader) = wal::read_segment(fs, number, DATABASE, None) else { return read };
    while let Ok(Some(commit)) = reader.next() {
        assert!(read.last().is_none_or(|(last, _)| *last < commit.seqno), "seqnos increase");
        read.push((commit.seqno, commit.payload.to_vec()));
    }
    read
}
