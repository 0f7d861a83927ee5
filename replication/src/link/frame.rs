//! What a stream carries behind its first byte.
//!
//! ```text
//! offset  size  field
//!      0     4  length   1 ..= 1 MiB, little-endian
//!      4     *  content  as many bytes; what they mean is the conversation's
//! ```
//!
//! The length is checked before anything is allocated, and memory grows only as bytes come, or to what the frame
//! before took: a peer that promises a large frame and sends little costs little.

use super::error::LinkError;

/// Bytes of a frame at most.
pub const FRAME_LEN_MAX: usize = 1 << 20;

const PREFIX: usize = 4;
/// Bytes that are set aside before content comes.
const FIRST_ROOM: usize = 16 << 10;

/// Puts frames together from the pieces in which they come.
#[derive(Debug)]
pub struct FrameDecoder {
    len_max: usize,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    /// Bytes of the content; known once the prefix is whole.
    wanted: Option<usize>,
    content: Vec<u8>,
    /// Bytes of the content before.
    last_len: usize,
}

impl FrameDecoder {
    /// A decoder of frames of at most `len_max` bytes.
    pub fn new(len_max: usize) -> FrameDecoder {
        let (prefix, content) = ([0; PREFIX], Vec::new());
        FrameDecoder { len_max, prefix, prefix_len: 0, wanted: None, content, last_len: 0 }
    }

    /// How many bytes may be fed at most: those up to the end of the prefix, or of the frame.
    pub fn wants(&self) -> usize {
        match self.wanted {
            None => PREFIX - self.prefix_len,
            Some(wanted) => wanted - self.content.len(),
        }
    }

    /// Whether a frame has begun.
    pub fn is_inside(&self) -> bool {
        self.wanted.is_some() || self.prefix_len > 0
    }

    /// Bytes of the frame that are here, those before its content among them.
    pub fn received(&self) -> usize {
        self.prefix_len + self.content.len()
    }

    /// Bytes that this decoder holds memory for.
    pub fn room(&self) -> usize {
        self.content.capacity()
    }

    /// Takes the next bytes, at most [`FrameDecoder::wants`]; the frame, if it is whole by them.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, LinkError> {
        debug_assert!(bytes.len() <= self.wants(), "more than was asked for");
        let Some(wanted) = self.wanted else {
            return self.feed_prefix(bytes).map(|()| None);
        };
        if self.content.capacity() == 0 {
            let room = FIRST_ROOM.max(bytes.len()).max(self.last_len);
            self.content.reserve_exact(wanted.min(room));
        }
        self.content.extend_from_slice(bytes);
        if self.content.len() < wanted {
            return Ok(None);
        }
        self.wanted = None;
        self.prefix_len = 0;
        self.last_len = wanted;
        Ok(Some(std::mem::take(&mut self.content)))
    }

    /// The stream has ended, which it may between frames only.
    pub fn end(&self) -> Result<(), LinkError> {
        let received = self.received() as u64;
        match self.wanted {
            None if self.prefix_len == 0 => Ok(()),
            None => Err(LinkError::FrameTruncated { wanted: PREFIX as u64, received }),
            Some(wanted) => {
                let wanted = (PREFIX + wanted) as u64;
                Err(LinkError::FrameTruncated { wanted, received })
            }
        }
    }

    fn feed_prefix(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        for (to, byte) in self.prefix.iter_mut().skip(self.prefix_len).zip(bytes) {
            *to = *byte;
            self.prefix_len += 1;
        }
        if self.prefix_len < PREFIX {
            return Ok(());
        }
        let len = u32::from_le_bytes(self.prefix);
        match usize::try_from(len) {
            Ok(wanted) if (1..=self.len_max).contains(&wanted) => {
                self.wanted = Some(wanted);
                Ok(())
            }
            _ => Err(LinkError::FrameLength { len: len.into(), max: self.len_max as u64 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `bytes` in pieces of at most `piece` bytes.
    fn feed(
        decoder: &mut FrameDecoder,
        mut bytes: &[u8],
        piece: usize,
    ) -> Result<Vec<Vec<u8>>, LinkError> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(piece.min(decoder.wants()).min(bytes.len()));
            frames.extend(decoder.feed(now)?);
            bytes = rest;
        }
        Ok(frames)
    }

    fn encoded(frames: &[Vec<u8>]) -> Vec<u8> {
        let one = |frame: &Vec<u8>| [&(frame.len() as u32).to_le_bytes()[..], frame].concat();
        frames.iter().flat_map(one).collect()
    }

    #[test]
    fn frames_of_no_bytes_and_of_one_too_many_are_refused_before_memory_is_taken() {
        for len in [0, FRAME_LEN_MAX as u32 + 1, u32::MAX] {
            let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
            let error = feed(&mut decoder, &len.to_le_bytes(), 4).unwrap_err();
            assert_eq!(error.code(), "FrameLength");
            assert!(error.to_string().contains(&len.to_string()), "{error}");
            assert_eq!(decoder.room(), 0);
        }
        let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
        assert_eq!(feed(&mut decoder, &(1u32 << 20).to_le_bytes(), 4).unwrap(), [[0u8; 0]; 0]);
    }

    #[test]
    fn a_promised_mebibyte_costs_only_what_was_sent() {
        let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
        feed(&mut decoder, &(1u32 << 20).to_le_bytes(), 1).unwrap();
        feed(&mut decoder, &[1; 100], 1).unwrap();
        assert!(decoder.room() <= FIRST_ROOM, "{}", decoder.room());
    }

    #[test]
    fn a_frame_may_take_at_once_what_the_one_before_took() {
        for len in [1u32 << 20, 70_000] {
            let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
            feed(&mut decoder, &encoded(&[vec![1; 100_000]]), 1_000).unwrap();
            assert_eq!(decoder.room(), 0);
            feed(&mut decoder, &len.to_le_bytes(), 4).unwrap();
            feed(&mut decoder, &[1; 100], 100).unwrap();
            assert_eq!(decoder.room(), 100_000.min(len as usize));
        }
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_truncated_at_every_byte() {
        let bytes = encoded(&[vec![1; 20], vec![2; 7]]);
        for end in 0..=bytes.len() {
            let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
            feed(&mut decoder, &bytes[..end], 3).unwrap();
            let is_whole = [0, 24, bytes.len()].contains(&end);
            match decoder.end() {
                Ok(()) => assert!(is_whole, "{end}"),
                Err(error) => assert!(!is_whole && error.code() == "FrameTruncated", "{end}"),
            }
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            piece in 1usize..400,
        ) {
            let mut decoder = FrameDecoder::new(FRAME_LEN_MAX);
            prop_assert_eq!(feed(&mut decoder, &encoded(&frames), piece).unwrap(), frames);
            prop_assert!(decoder.end().is_ok());
        }

        #[test]
        fn no_bytes_make_a_decoder_panic_or_take_more_memory_than_its_limit(
            bytes: Vec<u8>, piece in 1usize..20,
        ) {
            let mut decoder = FrameDecoder::new(1000);
            let _ = feed(&mut decoder, &bytes, piece);
            prop_assert!(decoder.room() <= 1000);
        }
    }
}
