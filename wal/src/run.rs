//! A run: many small commits that share one Blake3.
//!
//! A run serves small commits that nobody syncs one by one. Each record carries only a fast 64-bit
//! tag; the frame that closes the run carries the Blake3 of all of it.
//!
//! ```text
//! size  field
//!   96  Run frame       a header without payload; its digest opens the chain of tags
//!   per record:
//!    4    length        of the payload; 1..=65536, so neither zeros nor the magic of a frame
//!    8    tag           xxh3-64 of the payload, seeded by the segment's key, the tag before,
//!                       the record's offset, its length and its seqno
//!    8    seqno
//!    *    payload
//!  136  Close frame     payload:
//!   16    digest        keyed Blake3 from the Run frame to the last record
//!    4    records       how many
//!    4    run length    bytes from the Run frame to the last record
//! ```
//!
//! Invariants:
//! - A tag says that a record and all before it in its run are as written; it guards against a
//!   crash, not against a forger who knows the key. The Close guards against rot.
//! - An unterminated run is good up to its first bad tag.

use base::codec::{Decoded, Reader};
use base::frame::{self, FrameKey, FrameKind, Hash};
use base::{Corruption, Defect, Tick, planted};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a record before its payload.
pub(crate) const RECORD_HEADER_LEN: usize = 4 + 8 + 8;
/// The largest payload of a record that a reader accepts.
const RECORD_PAYLOAD_MAX: usize = 64 << 10;
/// Payloads from here on get a frame of their own.
pub(crate) const FRAME_PAYLOAD_MIN: usize = 16 << 10;
/// A run of this length is closed.
pub(crate) const RUN_LEN_FULL: usize = 32 << 10;
/// The longest run that a reader accepts, from its Run frame to its last record.
pub(crate) const RUN_LEN_MAX: usize = 128 << 10;
/// Bytes of a Close frame's payload.
const CLOSE_PAYLOAD_LEN: usize = 16 + 4 + 4;
/// Bytes of a Close frame.
pub(crate) const CLOSE_LEN: usize = frame::OVERHEAD + CLOSE_PAYLOAD_LEN;

const FRAME_MAGIC: u32 = u32::from_le_bytes(frame::MAGIC);
const _: () =
    assert!(FRAME_MAGIC as usize > RECORD_PAYLOAD_MAX, "a length never looks like a frame");
const _: () = assert!(FRAME_PAYLOAD_MIN <= RECORD_PAYLOAD_MAX, "a reader accepts what is written");
const _: () = assert!(
    RUN_LEN_FULL + RECORD_HEADER_LEN + FRAME_PAYLOAD_MIN <= RUN_LEN_MAX,
    "a reader accepts what is written"
);
const _: () = assert!(CLOSE_LEN == 136, "as the diagram above says");

/// Makes and checks the tags of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tagger {
    seed: u64,
}

impl Tagger {
    /// The tagger of the segment of `key`.
    pub(crate) fn new(key: &FrameKey) -> Tagger {
        Tagger { seed: key.tag_seed() }
    }

    /// The tag "before" the first record of the run whose Run frame has `hash`.
    pub(crate) fn first(hash: &Hash) -> u64 {
        u64::from_le_bytes(*hash.first_chunk().unwrap_or(&[0; 8]))
    }

    /// The tag of the record at `offset` of the file.
    #[inline]
    fn tag(self, previous: u64, offset: u64, seqno: u64, payload: &[u8]) -> u64 {
        let place = fold(self.seed ^ previous, offset);
        let seed = fold(place ^ payload.len() as u64, seqno);
        xxh3_64_with_seed(payload, seed)
    }

    /// Appends the record at `offset` to `out` and returns its tag.
    #[inline]
    pub(crate) fn encode(
        self,
        out: &mut Vec<u8>,
        previous: u64,
        offset: u64,
        seqno: Tick,
        payload: &[u8],
    ) -> u64 {
        let tag = self.tag(previous, offset, seqno.raw(), payload);
        let mut header = [0; RECORD_HEADER_LEN];
        let (len, rest) = header.split_at_mut(4);
        let (stored_tag, stored_seqno) = rest.split_at_mut(8);
        len.copy_from_slice(&(payload.len() as u32).to_le_bytes());
        stored_tag.copy_from_slice(&tag.to_le_bytes());
        stored_seqno.copy_from_slice(&seqno.raw().to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
        tag
    }

    /// Whether `record`, at `offset`, follows the record tagged `previous`.
    pub(crate) fn verify(self, record: &Record<'_>, previous: u64, offset: u64) -> bool {
        self.tag(previous, offset, record.seqno.raw(), record.payload) == record.tag
    }
}

/// Both factors and their order count; a zero factor is as unlikely as any other value.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    product as u64 ^ (product >> 64) as u64
}

/// A record as it stands in a run; its tag is not checked by decoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) tag: u64,
    pub(crate) seqno: Tick,
    pub(crate) payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// Bytes of the record.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        RECORD_HEADER_LEN + self.payload.len()
    }

    /// The record at the front of `bytes`.
    #[inline]
    pub(crate) fn decode(bytes: &'a [u8]) -> Decoded<Record<'a>> {
        let mut reader = Reader::new(bytes);
        let len = match reader.u32()? {
            0 | FRAME_MAGIC => return Err(Corruption::BadMagic),
            len => len as usize,
        };
        if len > RECORD_PAYLOAD_MAX {
            return Err(Corruption::OutOfRange);
        }
        let tag = reader.u64()?;
        let seqno = Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)?;
        Ok(Record { tag, seqno, payload: reader.take(len)? })
    }
}

/// What a Close frame says of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) digest: Hash,
    pub(crate) records: u32,
    pub(crate) run_len: u32,
}

impl Closing {
    /// What the Close of `run` says: its bytes from the Run frame to the last record.
    pub(crate) fn of(key: &FrameKey, run: &[u8], records: u32) -> Closing {
        Closing { digest: key.hash(run), records, run_len: run.len() as u32 }
    }

    /// The payload of the Close frame.
    pub(crate) fn encode(&self) -> [u8; CLOSE_PAYLOAD_LEN] {
        let mut out = [0; CLOSE_PAYLOAD_LEN];
        let (digest, rest) = out.split_at_mut(16);
        let (records, run_len) = rest.split_at_mut(4);
        digest.copy_from_slice(&self.digest);
        records.copy_from_slice(&self.records.to_le_bytes());
        run_len.copy_from_slice(&self.run_len.to_le_bytes());
        out
    }

    /// From the payload of a Close frame.
    pub(crate) fn decode(payload: &[u8]) -> Decoded<Closing> {
        let mut reader = Reader::new(payload);
        let closing =
            Closing { digest: reader.array()?, records: reader.u32()?, run_len: reader.u32()? };
        if reader.is_empty() { Ok(closing) } else { Err(Corruption::TrailingBytes) }
    }
}

/// How far a run is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunCheck {
    /// Bytes from the Run frame to the last good record; 0 if not even that frame can be trusted.
    pub(crate) records_len: usize,
    /// The same, with the Close if it verifies.
    pub(crate) len: usize,
    /// What the next frame names as previous.
    pub(crate) hash: Hash,
    /// Why the run is not closed: what was found behind the last good record.
    pub(crate) open: Option<Corruption>,
}

/// Checks the run at the front of `bytes`, which stand at `start`. Its Run frame was verified;
/// what follows it names `hash`.
///
/// A run whose Close matches is good as a whole. One without a good Close is good up to its first
/// bad tag. One with a good Close that does not match, though every tag does, is good for nothing.
pub(crate) fn check_run(
    key: &FrameKey,
    tagger: Tagger,
    bytes: &[u8],
    start: u64,
    hash: &Hash,
) -> RunCheck {
    let records_len = walk(bytes);
    let close = close_at(key, bytes, records_len, start, hash);
    if let Ok((closing, hash)) = close
        && closing.run_len as usize == records_len
        && closing.digest == key.hash(bytes.get(..records_len).unwrap_or_default())
    {
        return RunCheck { records_len, len: records_len + CLOSE_LEN, hash, open: None };
    }
    let (len, found) = tagged(tagger, bytes, start, hash);
    let (len, found) = match close {
        Ok(_) if len == records_len => (0, Corruption::DigestMismatch),
        Err(found) if len == records_len => (len, found),
        _ => (len, found),
    };
    let hash = key.hash(bytes.get(..len).unwrap_or_default());
    RunCheck { records_len: len, len, hash, open: Some(found) }
}

/// Bytes from the Run frame to where the lengths lead, unchecked.
fn walk(bytes: &[u8]) -> usize {
    let mut at = frame::HEADER_LEN;
    while let Some(Ok(record)) = bytes.get(at..).map(Record::decode) {
        at += record.len();
    }
    at
}

/// The Close frame at `at` of the run that stands at `start`, and its hash.
fn close_at(
    key: &FrameKey,
    bytes: &[u8],
    at: usize,
    start: u64,
    run: &Hash,
) -> Decoded<(Closing, Hash)> {
    let rest = bytes.get(at..).unwrap_or_default();
    let header = frame::decode_header(key, rest, start + at as u64)?;
    if header.kind != FrameKind::Close || header.previous != *run {
        return Err(Corruption::BrokenChain);
    }
    let frame = frame::decode(key, rest, start + at as u64)?;
    Ok((Closing::decode(frame.payload)?, frame.hash))
}

/// Bytes from the Run frame to the last record with a good tag, and what is wrong behind it.
fn tagged(tagger: Tagger, bytes: &[u8], start: u64, run: &Hash) -> (usize, Corruption) {
    let (mut at, mut tag) = (frame::HEADER_LEN, Tagger::first(run));
    loop {
        let record = match bytes.get(at..).map(Record::decode) {
            Some(Ok(record)) => record,
            Some(Err(found)) => return (at, found),
            None => return (at.min(bytes.len()), Corruption::Truncated),
        };
        let is_good = tagger.verify(&record, tag, start + at as u64);
        if !is_good && !planted(Defect::SkipRecordTag) {
            return (at, Corruption::DigestMismatch);
        }
        (at, tag) = (at + record.len(), record.tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Position;
    use base::frame::FrameHeader;

    const START: u64 = 5000;

    /// A closed run of three records, and where each record ends.
    fn sample() -> (FrameKey, Hash, Vec<u8>, [usize; 3]) {
        let key = FrameKey::derive("test", b"segment");
        let header = FrameHeader {
            kind: FrameKind::Run,
            payload_len: 0,
            offset: START,
            first_seqno: Tick::from_ms(1),
            last_seqno: Tick::from_ms(1),
            promise: Position::ZERO,
            previous: [1; 16],
        };
        let mut bytes = Vec::new();
        let hash = frame::encode(&mut bytes, &key, &header, &[]);
        let mut tag = Tagger::first(&hash);
        let ends = [9usize, 1, 150].map(|len| {
            let (at, seqno) = (START + bytes.len() as u64, Tick::from_ms(len as u64));
            tag = Tagger::new(&key).encode(&mut bytes, tag, at, seqno, &vec![len as u8; len]);
            bytes.len()
        });
        let closing = Closing::of(&key, &bytes, 3);
        let (offset, previous) = (START + bytes.len() as u64, hash);
        let close = FrameHeader { kind: FrameKind::Close, offset, previous, ..header };
        frame::encode(&mut bytes, &key, &close, &closing.encode());
        (key, hash, bytes, ends)
    }

    fn check(key: &FrameKey, hash: &Hash, bytes: &[u8]) -> RunCheck {
        check_run(key, Tagger::new(key), bytes, START, hash)
    }

    #[test]
    fn a_closed_run_is_good_as_a_whole() {
        let (key, hash, bytes, ends) = sample();
        let found = check(&key, &hash, &bytes);
        assert_eq!((found.records_len, found.len, found.open), (ends[2], bytes.len(), None));
    }

    /// A run that was cut is good up to the last whole record.
    #[test]
    fn an_unterminated_run_is_good_up_to_its_cut() {
        let (key, hash, bytes, ends) = sample();
        for cut in frame::HEADER_LEN..bytes.len() {
            let found = check(&key, &hash, &bytes[..cut]);
            let whole = ends.iter().rev().find(|end| **end <= cut);
            assert_eq!(found.records_len, *whole.unwrap_or(&frame::HEADER_LEN), "cut at {cut}");
            assert!(found.open.is_some());
        }
    }

    /// No flipped bit is ever handed out: a run is good up to the record that holds it, at most.
    #[test]
    fn every_flipped_bit_of_a_run_is_left_out() {
        let (key, hash, bytes, ends) = sample();
        for bit in frame::HEADER_LEN * 8..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = check(&key, &hash, &flipped);
            assert!(found.open.is_some(), "bit {bit}");
            assert!(found.records_len <= bit / 8, "bit {bit}");
            let starts = [frame::HEADER_LEN, ends[0], ends[1], ends[2]];
            assert!(starts.contains(&found.records_len));
        }
    }

    #[test]
    fn the_close_of_another_run_closes_nothing() {
        let (key, hash, bytes, ends) = sample();
        let mut run = bytes[..ends[2]].to_vec();
        let header = frame::decode_header(&key, &bytes[ends[2]..], START + ends[2] as u64).unwrap();
        let other = FrameHeader { previous: [9; 16], ..header };
        frame::encode(&mut run, &key, &other, &Closing::of(&key, &bytes[..ends[2]], 3).encode());
        let found = check(&key, &hash, &run);
        assert_eq!((found.records_len, found.open), (ends[2], Some(Corruption::BrokenChain)));
    }

    #[test]
    fn a_record_moved_swapped_or_repeated_has_a_bad_tag() {
        let (key, hash, bytes, ends) = sample();
        let (first, second) = (&bytes[frame::HEADER_LEN..ends[0]], &bytes[ends[0]..ends[1]]);
        let front = &bytes[..frame::HEADER_LEN];
        for (records, good) in [
            (vec![second, first], 0),
            (vec![first, first, second], first.len()),
            (vec![second], 0),
            (vec![first, second], first.len() + second.len()),
        ] {
            let run: Vec<u8> = [front, &records.concat()].concat();
            assert_eq!(check(&key, &hash, &run).records_len, frame::HEADER_LEN + good);
        }
    }

    /// A good record in the place of another one that was as good: what follows does not follow it.
    #[test]
    fn a_replaced_record_breaks_the_tags_behind_it() {
        let (key, hash, mut bytes, ends) = sample();
        let mut other = Vec::new();
        let at = START + frame::HEADER_LEN as u64;
        let first = Tagger::first(&hash);
        Tagger::new(&key).encode(&mut other, first, at, Tick::from_ms(9), &[8; 9]);
        bytes[frame::HEADER_LEN..ends[0]].copy_from_slice(&other);
        assert_eq!(check(&key, &hash, &bytes).records_len, ends[0]);
    }

    #[test]
    fn a_close_that_does_not_match_its_good_records_spoils_the_run() {
        let (key, hash, bytes, ends) = sample();
        let mut run = bytes[..ends[2]].to_vec();
        let closing = Closing { digest: [0; 16], records: 3, run_len: ends[2] as u32 };
        let header = frame::decode_header(&key, &bytes[ends[2]..], START + ends[2] as u64).unwrap();
        frame::encode(&mut run, &key, &header, &closing.encode());
        let found = check(&key, &hash, &run);
        assert_eq!((found.records_len, found.open), (0, Some(Corruption::DigestMismatch)));
    }
}
