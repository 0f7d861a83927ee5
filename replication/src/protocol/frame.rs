//! The envelope of everything that two nodes say to each other.
//!
//! A stream carries frames, each behind its length (u32), which its reader checks against 1 MiB
//! before it makes room. Integers little-endian:
//!
//! ```text
//! offset  size  field
//!      0     1  version   1
//!      1     1  kind      see the constants of `Kind`
//!      2     1  flags     bit 0: the payload is a piece of a longer one, see `pieces`
//!                         bit 1: the payload is packed, see `packing`; only if both sides can
//!                         bit 2: the payload, whole and not packed, ends in a digest of its own: of a shipment
//!                         all bytes before, of a chunk of a delta those behind its round; only if
//!                         both sides can
//!      3     1  zero
//!      4     4  length    of the payload before it was packed; else 0
//!      8     8  digest    first bytes of the Blake3 of: channel (1), number (8), bytes 0..8, and the
//!                         payload as it is sent, so that nothing is unpacked that does not verify;
//!                         with bit 2 only what its own digest leaves out, and that digest
//!     16     *  payload   to the end of the frame
//! ```
//!
//! The number counts the frames of a channel in one direction and is not sent. So a frame that is
//! replayed, left out, reordered or moved to another channel does not verify.
//!
//! So no byte is digested twice on its way: whoever decodes a payload with a digest of its own verifies that.

pub use crate::channel::Channel;

use super::packing::{Packer, unpack};
use crate::error::ProtocolError;
use std::borrow::Cow;

const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 1 + 1 + 1 + 1 + 4 + DIGEST_LEN;
const DIGEST_LEN: usize = 8;
const PIECE: u8 = 1;
const PACKED: u8 = 2;
const SELF_VERIFYING: u8 = 4;
/// Bytes of a payload's own digest.
const OWN_DIGEST_LEN: usize = 32;
/// The bit in a hello that says that packed payloads are understood.
pub const FEATURE_PACKED: u64 = 1;
/// The bit in a hello that says that tables are announced by their roots. Others announce them by a
/// digest of all bytes, so between the two a delta takes the place of tables.
pub const FEATURE_ROOTS: u64 = 2;
/// The bit in a hello that says that a wish may name ranges of keys. Others give the whole scope.
pub const FEATURE_RANGES: u64 = 4;
/// The bit in a hello that says that payloads with a digest of their own are taken without another one.
pub const FEATURE_SELF_VERIFYING: u64 = 8;
/// Bytes of a frame at the most.
pub const FRAME_LEN_MAX: usize = 1 << 20;
/// Bytes of a control message at the most.
pub const CONTROL_LEN_MAX: usize = 64 << 10;
/// Bytes of a payload that fits one frame.
pub const PAYLOAD_LEN_MAX: usize = FRAME_LEN_MAX - HEADER_LEN;

/// What a frame is. Part of the format, do not change. Kinds below 32 are control messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the messages of these names say what they are")]
pub enum Kind {
    Hello = 1,
    HelloAck = 2,
    Subscribe = 3,
    Offer = 4,
    Want = 5,
    Statement = 6,
    Heartbeat = 7,
    Goodbye = 8,
    Heal = 9,
    /// From here on the tail answers the newest subscription.
    TailStart = 32,
    /// A shipment, as its author encoded it.
    Shipment = 33,
    /// What comes with a delta.
    DeltaHead = 64,
    /// A chunk of a delta, see `base::state`.
    DeltaChunk = 65,
    /// A delta is complete.
    DeltaEnd = 66,
    /// What comes with tables.
    TablesHead = 67,
    /// Bytes of a file.
    FileBytes = 68,
    /// A frame of a comparison.
    Reconcile = 96,
    AuditAsk = 97,
    AuditOpen = 98,
    AuditHead = 99,
    AuditChunk = 100,
    AuditGone = 101,
    AuditEnd = 102,
    AuditStop = 103,
}

impl Kind {
    fn from_raw(raw: u8) -> Option<Kind> {
        Some(match raw {
            1 => Kind::Hello,
            2 => Kind::HelloAck,
            3 => Kind::Subscribe,
            4 => Kind::Offer,
            5 => Kind::Want,
            6 => Kind::Statement,
            7 => Kind::Heartbeat,
            8 => Kind::Goodbye,
            9 => Kind::Heal,
            32 => Kind::TailStart,
            33 => Kind::Shipment,
            64 => Kind::DeltaHead,
            65 => Kind::DeltaChunk,
            66 => Kind::DeltaEnd,
            67 => Kind::TablesHead,
            68 => Kind::FileBytes,
            96 => Kind::Reconcile,
            97 => Kind::AuditAsk,
            98 => Kind::AuditOpen,
            99 => Kind::AuditHead,
            100 => Kind::AuditChunk,
            101 => Kind::AuditGone,
            102 => Kind::AuditEnd,
            103 => Kind::AuditStop,
            _ => return None,
        })
    }

    /// From where on such payloads are covered by the digest that they end in; none if they do not.
    fn verifies_itself_from(self) -> Option<usize> {
        match self {
            Kind::Shipment => Some(0),
            // Behind the round.
            Kind::DeltaChunk => Some(4),
            _ => None,
        }
    }

    /// The channel that such frames belong on.
    pub fn channel(self) -> Channel {
        match self as u8 {
            0..32 => Channel::Control,
            32..64 => Channel::Tail,
            64..96 => Channel::Bulk,
            _ => Channel::Reconcile,
        }
    }
}

/// Whether a frame holds its payload whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// A piece of it.
    Piece,
}

/// A frame that verified.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// Whether the payload is all of it.
    pub extent: Extent,
    /// What it holds.
    pub payload: Cow<'a, [u8]>,
}

/// One direction of a channel: counts its frames, so that each verifies in its place only.
#[derive(Debug)]
pub struct Lane {
    channel: Channel,
    number: u64,
    /// Once both sides can.
    packer: Option<Packer>,
    /// Whether both sides take payloads that verify themselves.
    self_verifying: Agreed,
}

/// Whether both sides can do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreed {
    Yes,
    No,
}

impl Lane {
    /// The start of a direction of `channel`.
    pub fn new(channel: Channel) -> Lane {
        Lane { channel, number: 0, packer: None, self_verifying: Agreed::No }
    }

    /// From now on what verifies itself is not digested once more.
    pub fn allow_self_verifying(&mut self) {
        self.self_verifying = Agreed::Yes;
    }

    /// From now on payloads may be packed. Control messages never are.
    pub fn allow_packing(&mut self) {
        if self.channel != Channel::Control {
            self.packer = Some(Packer::new());
        }
    }

    /// Bytes that packing has saved.
    pub fn saved(&self) -> u64 {
        self.packer.as_ref().map_or(0, Packer::saved)
    }

    /// The next frame: `parts` are its payload, back to back.
    pub fn seal(&mut self, kind: Kind, extent: Extent, parts: &[&[u8]]) -> Vec<u8> {
        let flags = if extent == Extent::Piece { PIECE } else { 0 };
        let packed = self.packer.as_mut().and_then(|packer| packer.pack(parts));
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let (flags, raw_len) = match packed {
            Some(_) => (flags | PACKED, len as u32),
            None => (flags, 0),
        };
        let sent: &[&[u8]] = match &packed {
            Some(packed) => &[packed],
            None => parts,
        };
        let len = sent.iter().map(|part| part.len()).sum::<usize>();
        let flags = match self.own_digest_from(kind as u8, flags, len) {
            Some(_) => flags | SELF_VERIFYING,
            None => flags,
        };
        let [a, b, c, d] = raw_len.to_le_bytes();
        let head = [VERSION, kind as u8, flags, 0, a, b, c, d];
        let mut frame = Vec::with_capacity(HEADER_LEN + len);
        frame.extend_from_slice(&head);
        frame.extend_from_slice(&[0; DIGEST_LEN]);
        sent.iter().for_each(|part| frame.extend_from_slice(part));
        if let Some((header, payload)) = frame.split_first_chunk_mut::<HEADER_LEN>() {
            let digest = self.digest(&head, payload);
            header.iter_mut().skip(head.len()).zip(digest).for_each(|(to, from)| *to = from);
        }
        self.number += 1;
        frame
    }

    /// Checks that `frame` is the next one.
    pub fn open<'a>(&mut self, frame: &'a [u8]) -> Result<Frame<'a>, ProtocolError> {
        let value = frame.len() as u64;
        if frame.len() > FRAME_LEN_MAX {
            return Err(ProtocolError::TooLong {
                what: "frame",
                limit: FRAME_LEN_MAX as u64,
                value,
            });
        }
        let (header, payload) = frame
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(ProtocolError::TooShort { what: "frame", limit: HEADER_LEN as u64, value })?;
        let [head @ .., _, _, _, _, _, _, _, _] = *header;
        let [version, kind, flags, zero, raw_len @ ..] = head;
        if version != VERSION {
            return Err(ProtocolError::FrameVersion { found: version, supported: VERSION });
        }
        if flags & SELF_VERIFYING != 0
            && self.own_digest_from(kind, flags & !SELF_VERIFYING, payload.len()).is_none()
        {
            return Err(ProtocolError::UnknownFrame { kind });
        }
        if !header.ends_with(&self.digest(&head, payload)) {
            return Err(ProtocolError::FrameDamaged { number: self.number });
        }
        let payload = match flags & PACKED {
            0 => Cow::Borrowed(payload),
            _ => Cow::Owned(self.unpacked(kind, payload, u32::from_le_bytes(raw_len))?),
        };
        self.number += 1;
        let unknown = ProtocolError::UnknownFrame { kind };
        let kind = Kind::from_raw(kind).filter(|kind| kind.channel() == self.channel);
        let Some(kind) = kind else { return Err(unknown) };
        let extent = match flags & !(PACKED | SELF_VERIFYING) {
            0 => Extent::Whole,
            PIECE if self.channel != Channel::Control => Extent::Piece,
            _ => return Err(unknown),
        };
        if zero != 0 || (flags & PACKED == 0 && raw_len != [0; 4]) {
            return Err(unknown);
        }
        Ok(Frame { kind, extent, payload })
    }

    /// A packed payload as it was. Its length is checked before there is room for it.
    fn unpacked(&self, kind: u8, payload: &[u8], len: u32) -> Result<Vec<u8>, ProtocolError> {
        if self.packer.is_none() {
            return Err(ProtocolError::UnknownFrame { kind });
        }
        let len = len as usize;
        if len > PAYLOAD_LEN_MAX {
            let (limit, value) = (PAYLOAD_LEN_MAX as u64, len as u64);
            return Err(ProtocolError::TooLong { what: "packed payload", limit, value });
        }
        unpack(payload, len).ok_or(ProtocolError::FrameDamaged { number: self.number })
    }

    /// From where on a payload of `len` bytes verifies itself, if that counts: with other flags than its own
    /// only a part of it is there, or it is packed.
    fn own_digest_from(&self, kind: u8, flags: u8, len: usize) -> Option<usize> {
        let from = Kind::from_raw(kind)?.verifies_itself_from()?;
        let counts = self.self_verifying == Agreed::Yes && flags == 0;
        (counts && len >= from + OWN_DIGEST_LEN).then_some(from)
    }

    fn digest(&self, head: &[u8; HEADER_LEN - DIGEST_LEN], payload: &[u8]) -> [u8; DIGEST_LEN] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[self.channel as u8]);
        hasher.update(&self.number.to_le_bytes());
        hasher.update(head);
        let [_, kind, flags, ..] = *head;
        let from = match flags & SELF_VERIFYING {
            0 => None,
            _ => self.own_digest_from(kind, flags & !SELF_VERIFYING, payload.len()),
        };
        match from {
            None => hasher.update(payload),
            Some(from) => {
                let own_digest = payload.len().saturating_sub(OWN_DIGEST_LEN);
                hasher.update(payload.get(..from).unwrap_or_default());
                hasher.update(payload.get(own_digest..).unwrap_or_default())
            }
        };
        let mut digest = [0; DIGEST_LEN];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        Lane::new(Channel::Tail).seal(Kind::Shipment, Extent::Whole, &[b"some", b"thing"])
    }

    #[test]
    fn a_frame_comes_back() {
        let frame = sealed();
        let opened = Lane::new(Channel::Tail).open(&frame).unwrap();
        assert_eq!((opened.kind, opened.extent), (Kind::Shipment, Extent::Whole));
        assert_eq!(&*opened.payload, b"something");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let frame = sealed();
        for at in 0..frame.len() {
            assert!(Lane::new(Channel::Tail).open(&frame[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = frame.clone();
                bad[at] ^= 1 << bit;
                assert!(Lane::new(Channel::Tail).open(&bad).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_frame_that_is_replayed_reordered_or_moved_is_refused() {
        let mut lane = Lane::new(Channel::Tail);
        let first = lane.seal(Kind::Shipment, Extent::Whole, &[b"1"]);
        let second = lane.seal(Kind::Shipment, Extent::Whole, &[b"2"]);
        assert!(Lane::new(Channel::Tail).open(&second).is_err());
        assert!(Lane::new(Channel::Bulk).open(&first).is_err());
        let mut reader = Lane::new(Channel::Tail);
        reader.open(&first).unwrap();
        let replayed = reader.open(&first).unwrap_err();
        assert!(matches!(replayed, ProtocolError::FrameDamaged { number: 1 }));
        reader.open(&second).unwrap();
    }

    #[test]
    fn a_frame_without_bytes_and_one_beyond_the_limit_are_refused() {
        let mut lane = Lane::new(Channel::Tail);
        assert!(matches!(lane.open(&[]), Err(ProtocolError::TooShort { .. })));
        let long = vec![1; FRAME_LEN_MAX + 1];
        assert!(matches!(lane.open(&long), Err(ProtocolError::TooLong { .. })));
    }

    fn packing(channel: Channel) -> Lane {
        let mut lane = Lane::new(channel);
        lane.allow_packing();
        lane
    }

    #[test]
    fn a_packed_frame_comes_back_where_that_was_agreed_and_nowhere_else() {
        let payload = b"again and ".repeat(900);
        let mut writer = packing(Channel::Bulk);
        let frame = writer.seal(Kind::DeltaChunk, Extent::Whole, &[b"1", &payload]);
        assert!(frame.len() < 300 && writer.saved() > 8000, "{} bytes", frame.len());
        let opened = packing(Channel::Bulk).open(&frame).unwrap();
        assert!(opened.payload[1..] == payload);
        let refused = Lane::new(Channel::Bulk).open(&frame);
        assert!(matches!(refused, Err(ProtocolError::UnknownFrame { kind: 65 })));
        let control = packing(Channel::Control).seal(Kind::Hello, Extent::Whole, &[&payload]);
        assert!(control.len() > payload.len());
        for at in 0..frame.len() {
            assert!(packing(Channel::Bulk).open(&frame[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = frame.clone();
                bad[at] ^= 1 << bit;
                // Before it is unpacked: zstd has bits that mean nothing.
                let refused = packing(Channel::Bulk).open(&bad);
                assert!(refused.is_err(), "byte {at} bit {bit}");
            }
        }
    }

    /// Frames that claim more, less or nothing of what their bytes become.
    #[test]
    fn a_bomb_takes_no_more_room_than_a_frame() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        for (len, is_too_long) in [(0, false), (1000, false), (1 << 20, true), (u32::MAX, true)] {
            let [a, b, c, d] = len.to_le_bytes();
            let head = [VERSION, Kind::Shipment as u8, PACKED, 0, a, b, c, d];
            let mut lane = packing(Channel::Tail);
            let digest = lane.digest(&head, &bomb);
            let refused = lane.open(&[&head[..], &digest, &bomb].concat()).unwrap_err();
            let found = matches!(refused, ProtocolError::TooLong { .. });
            assert_eq!(found, is_too_long, "{len}: {refused}");
        }
    }

    fn self_verifying() -> Lane {
        let mut lane = Lane::new(Channel::Bulk);
        lane.allow_self_verifying();
        lane
    }

    /// Its own digest covers what that of the frame does not.
    #[test]
    fn of_a_payload_with_a_digest_of_its_own_every_byte_is_covered_once() {
        let body: Vec<u8> = (0..100).collect();
        let own = blake3::hash(&body);
        let parts: [&[u8]; 3] = [&[1, 2, 3, 4], &body, own.as_bytes()];
        let frame = self_verifying().seal(Kind::DeltaChunk, Extent::Whole, &parts);
        let verifies = |payload: &[u8]| {
            let (body, digest) = payload[4..].split_at(payload.len() - 36);
            blake3::hash(body).as_bytes() == digest
        };
        let opened = self_verifying().open(&frame).unwrap();
        assert!(opened.extent == Extent::Whole && verifies(&opened.payload));
        for at in 0..frame.len() {
            let cut = self_verifying().open(&frame[..at]).map(|it| verifies(&it.payload));
            assert!(!cut.unwrap_or(false), "cut at {at}");
            for bit in 0..8 {
                let mut bad = frame.clone();
                bad[at] ^= 1 << bit;
                let opened = self_verifying().open(&bad).map(|it| verifies(&it.payload));
                assert!(!opened.unwrap_or(false), "byte {at} bit {bit}");
            }
        }
        let mut writer = self_verifying();
        writer.seal(Kind::DeltaEnd, Extent::Whole, &[]);
        let second = writer.seal(Kind::DeltaChunk, Extent::Whole, &parts);
        assert!(self_verifying().open(&second).is_err(), "in another place");
        let other = [parts[0], &[7; 100], blake3::hash(&[7; 100]).as_bytes()].concat();
        let moved = [&frame[..HEADER_LEN], &other].concat();
        assert!(verifies(&other) && self_verifying().open(&moved).is_err(), "another payload");
    }

    #[test]
    fn who_has_not_agreed_takes_no_payload_for_its_own_digest_nor_any_of_other_kinds_or_in_pieces()
    {
        let payload = [7; 100];
        let refused = |flags: u8, kind: Kind, len: usize| {
            let head = [VERSION, kind as u8, flags, 0, 0, 0, 0, 0];
            let payload = &payload[..len];
            let digest = self_verifying().digest(&head, payload);
            self_verifying().open(&[&head[..], &digest, payload].concat()).map(drop)
        };
        refused(SELF_VERIFYING, Kind::DeltaChunk, 100).unwrap();
        for (flags, kind, len) in [
            (SELF_VERIFYING, Kind::FileBytes, 100),
            (SELF_VERIFYING | PIECE, Kind::DeltaChunk, 100),
            (SELF_VERIFYING | PACKED, Kind::DeltaChunk, 100),
            (SELF_VERIFYING, Kind::DeltaChunk, 35),
        ] {
            let refused = refused(flags, kind, len);
            assert!(matches!(refused, Err(ProtocolError::UnknownFrame { .. })), "{flags} {kind:?}");
        }
        let frame = self_verifying().seal(Kind::DeltaChunk, Extent::Whole, &[&payload]);
        let refused = Lane::new(Channel::Bulk).open(&frame);
        assert!(matches!(refused, Err(ProtocolError::UnknownFrame { kind: 65 })));
        let whole = Lane::new(Channel::Bulk).seal(Kind::DeltaChunk, Extent::Whole, &[&payload]);
        self_verifying().open(&whole).unwrap();
    }

    #[test]
    fn a_kind_on_the_wrong_channel_is_refused() {
        let frame = Lane::new(Channel::Control).seal(Kind::Shipment, Extent::Whole, &[]);
        let refused = Lane::new(Channel::Control).open(&frame);
        assert!(matches!(refused, Err(ProtocolError::UnknownFrame { kind: 33 })));
    }
}
