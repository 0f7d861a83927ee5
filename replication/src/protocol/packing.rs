//! Payloads of frames, made smaller by zstd where that pays.
//!
//! It pays if at least a quarter goes away: less takes both sides more time than lines of the same house
//! take for it. A direction that had nothing to gain several times does not try each frame: after each loss
//! it passes twice as many frames over, 64 at the most.
//!
//! What comes says how long it was. That is checked against the limit of frames before there is room
//! for it, and nothing longer is made of it, whatever the compressed bytes want.

use zstd::bulk::{Compressor, Decompressor};

/// Payloads below are not worth the call.
const LEN_MIN: usize = 512;
/// What goes away at least, as a part of the whole.
const GAIN_MIN: usize = 4;
/// Frames that are passed over after losses, at the most.
const PASSED_MAX: u32 = 64;
/// The fastest that is not a special mode: a wire is rarely slower than better levels.
const LEVEL: i32 = 1;

/// Makes payloads of one direction smaller. Takes about a megabyte once it has begun.
pub(crate) struct Packer {
    compressor: Option<Compressor<'static>>,
    /// Frames to pass over, and how many it will be after the next loss.
    passing: u32,
    next: u32,
    /// Bytes that were not sent.
    saved: u64,
}

impl Packer {
    pub(crate) fn new() -> Packer {
        Packer { compressor: None, passing: 0, next: 1, saved: 0 }
    }

    /// Bytes that went away so far.
    pub(crate) fn saved(&self) -> u64 {
        self.saved
    }

    /// The parts back to back, smaller; none if that does not pay.
    pub(crate) fn pack(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if len < LEN_MIN {
            return None;
        }
        if self.passing > 0 {
            self.passing -= 1;
            return None;
        }
        let packed = match parts {
            [whole] => self.compress(whole),
            _ => self.compress(&parts.concat()),
        };
        let packed = packed.filter(|packed| packed.len() + len / GAIN_MIN <= len);
        match &packed {
            Some(packed) => {
                self.next = 1;
                self.saved += (len - packed.len()) as u64;
            }
            None => {
                self.passing = self.next;
                self.next = (self.next * 2).min(PASSED_MAX);
            }
        }
        packed
    }

    fn compress(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.compressor.is_none() {
            self.compressor = Compressor::new(LEVEL).ok();
        }
        self.compressor.as_mut()?.compress(bytes).ok()
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("saved", &self.saved).finish_non_exhaustive()
    }
}

/// What was packed, if it is exactly `len` bytes. The caller has checked that `len` is allowed.
pub(crate) fn unpack(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    let bytes = Decompressor::new().ok()?.decompress(packed, len).ok()?;
    (bytes.len() == len).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_comes_back(word: Vec<u8>, times in 1usize..2000) {
            let bytes = word.repeat(times);
            if let Some(packed) = Packer::new().pack(&[&bytes]) {
                prop_assert!(packed.len() < bytes.len());
                prop_assert_eq!(unpack(&packed, bytes.len()), Some(bytes));
            }
        }

        #[test]
        fn hostile_bytes_make_no_more_than_was_allowed(packed: Vec<u8>, len in 0usize..1 << 20) {
            prop_assert!(unpack(&packed, len).is_none_or(|bytes| bytes.len() == len));
        }
    }

    /// A gigabyte of zeros in some kilobytes.
    #[test]
    fn a_bomb_is_given_up_at_the_length_that_it_claims() {
        let bomb = zstd::bulk::compress(&vec![0; 1 << 30], LEVEL).unwrap();
        assert!(bomb.len() < 100_000, "{}", bomb.len());
        for len in [0, 1, 1000, 1 << 20] {
            assert_eq!(unpack(&bomb, len), None);
        }
    }

    #[test]
    fn who_has_nothing_to_gain_tries_less_and_less_but_never_stops() {
        let mut noise = vec![0; 4096];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let mut packer = Packer::new();
        assert_eq!(packer.pack(&[&noise]), None);
        assert_eq!(packer.pack(&[&[7; 4096]]), None, "one is passed over");
        assert!(packer.pack(&[&[7; 4096]]).is_some());
        (0..1000).for_each(|_| assert_eq!(packer.pack(&[&noise]), None));
        let tries = (0..=PASSED_MAX).find(|_| packer.pack(&[&[7; 4096]]).is_some());
        assert!(tries.is_some_and(|tries| tries > 1), "{tries:?}");
        assert!(packer.saved() > 8000);
        assert_eq!(packer.pack(&[&[7; LEN_MIN - 1]]), None);
    }
}
