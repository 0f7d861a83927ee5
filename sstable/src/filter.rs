//! The filter of a table: says of most absent keys that they are absent, for one line of cache.
//!
//! A blocked Bloom filter: a key hash chooses one line of 64 bytes, and `probes` bits in it. Source:
//! Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (WEA 2007), with the
//! bit sequence of RocksDB's `FastLocalBloom`.
//!
//! ```text
//! offset  size  field
//!      0     1  kind      1 = blocked Bloom
//!      1     1  probes    bits a key sets, 1 to 16
//!      2     2  reserved  0
//!      4     4  lines     at least 1
//!      8     *  lines     64 bytes each: 8 words of 64 bits
//! ```
//!
//! An empty section means: no filter, every key may be there.

use base::codec::{Decoded, Reader};
use base::{Corruption, Defect, planted};

const KIND_BLOCKED_BLOOM: u8 = 1;
const PROBES_MAX: u8 = 16;
const LINE_LEN: usize = 64;
const LINE_BITS_LOG2: u32 = 9;
const _: () = assert!(LINE_LEN * 8 == 1 << LINE_BITS_LOG2, "a bit number is 9 bits of the hash");
/// 2^32 divided by the golden ratio: multiplying by it spreads the bits of a key over its line.
const GOLDEN: u32 = 0x9e37_79b9;

/// One line of cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct Line([u64; LINE_LEN / 8]);

/// Says of most absent keys that they are absent.
#[derive(Debug)]
pub struct Filter {
    lines: Box<[Line]>,
    probes: u8,
}

impl Filter {
    /// A filter over `hashes` ([`base::key_hash`], one a key) that takes `bits` in total; with no
    /// bits it lets everything pass.
    pub fn build(hashes: &[u64], bits: u64) -> Filter {
        if hashes.is_empty() || bits == 0 {
            return Filter { lines: Box::default(), probes: 1 };
        }
        let lines = bits.div_ceil(LINE_LEN as u64 * 8).clamp(1, u64::from(u32::MAX) >> 6) as usize;
        let bits_per_key = bits / hashes.len() as u64;
        let mut filter =
            Filter { lines: vec![Line([0; 8]); lines].into(), probes: probes_for(bits_per_key) };
        let kept = hashes.len() - usize::from(planted(Defect::ForgetKeyInFilter));
        hashes.iter().take(kept).for_each(|hash| filter.insert(*hash));
        filter
    }

    /// Whether a key of this hash may have been inserted. Never false for one that was.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        let Some(line) = self.lines.get(line_of(hash, self.lines.len())) else {
            return true;
        };
        let mut bits = bits_of(hash);
        let mut all = 1;
        for _ in 0..self.probes {
            let bit = bits >> (32 - LINE_BITS_LOG2);
            all &= line.0[(bit >> 6) as usize & 7] >> (bit & 63);
            bits = bits.wrapping_mul(GOLDEN);
        }
        all & 1 != 0
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Appends the section in the diagram above.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.lines.is_empty() {
            return;
        }
        out.reserve(8 + self.lines.len() * LINE_LEN);
        out.extend_from_slice(&[KIND_BLOCKED_BLOOM, self.probes, 0, 0]);
        out.extend_from_slice(&(self.lines.len() as u32).to_le_bytes());
        for line in &self.lines {
            line.0.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
    }

    /// The filter whose section is `bytes`.
    pub fn decode(bytes: &[u8]) -> Decoded<Filter> {
        if bytes.is_empty() {
            return Ok(Filter { lines: Box::default(), probes: 1 });
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != KIND_BLOCKED_BLOOM {
            return Err(Corruption::UnknownAlgorithm);
        }
        let probes = reader.u8()?;
        if !(1..=PROBES_MAX).contains(&probes) || reader.u16()? != 0 {
            return Err(Corruption::OutOfRange);
        }
        let count = reader.u32()? as usize;
        let (lines, rest) = reader.rest().as_chunks::<LINE_LEN>();
        if count == 0 || count != lines.len() || !rest.is_empty() {
            return Err(Corruption::Truncated);
        }
        Ok(Filter { lines: lines.iter().map(decode_line).collect(), probes })
    }

    fn insert(&mut self, hash: u64) {
        let index = line_of(hash, self.lines.len());
        let Some(line) = self.lines.get_mut(index) else { return };
        let mut bits = bits_of(hash);
        for _ in 0..self.probes {
            let bit = bits >> (32 - LINE_BITS_LOG2);
            line.0[(bit >> 6) as usize & 7] |= 1 << (bit & 63);
            bits = bits.wrapping_mul(GOLDEN);
        }
    }
}

/// How many bits a key should set. Fewer than in a plain Bloom filter, because lines fill unevenly.
fn probes_for(bits_per_key: u64) -> u8 {
    match bits_per_key {
        0..=2 => 1,
        3 => 2,
        4..=5 => 3,
        6..=7 => 4,
        8 => 5,
        9..=11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=23 => 9,
        _ => 10,
    }
}

/// The line of a key: the low half of its hash, scaled.
#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    (((hash & 0xffff_ffff) * lines as u64) >> 32) as usize
}

/// What the bits of a key are taken from: the high half of its hash.
#[inline]
fn bits_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn decode_line(bytes: &[u8; LINE_LEN]) -> Line {
    let mut line = Line([0; 8]);
    for (to, from) in line.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *to = u64::from_le_bytes(*from);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{SpaceId, key_hash};
    use proptest::prelude::*;

    fn hash(number: u64) -> u64 {
        key_hash(SpaceId(1), format!("user:{number:012}").as_bytes())
    }

    fn false_positives(keys: u64, bits_per_key: u64) -> f64 {
        let hashes: Vec<u64> = (0..keys).map(hash).collect();
        let filter = Filter::build(&hashes, keys * bits_per_key);
        let absent = 200_000;
        let wrong =
            (keys..keys + absent).filter(|&number| filter.may_contain(hash(number))).count();
        wrong as f64 / absent as f64
    }

    #[test]
    fn ten_bits_a_key_let_one_absent_key_in_a_hundred_pass() {
        let rate = false_positives(50_000, 10);
        assert!(rate < 0.013, "{rate}");
        let rate = false_positives(50_000, 16);
        assert!(rate < 0.002, "{rate}");
        let rate = false_positives(50_000, 5);
        assert!(rate < 0.13, "{rate}");
    }

    #[test]
    fn without_bits_everything_passes() {
        let filter = Filter::build(&[1, 2, 3], 0);
        assert!(filter.may_contain(4));
        let mut out = Vec::new();
        filter.encode(&mut out);
        assert!(out.is_empty() && Filter::decode(&out).unwrap().may_contain(5));
    }

    proptest! {
        #[test]
        fn an_inserted_key_always_passes(hashes: Vec<u64>, bits in 0u64..40) {
            let built = Filter::build(&hashes, hashes.len() as u64 * bits);
            let mut out = Vec::new();
            built.encode(&mut out);
            let decoded = Filter::decode(&out).unwrap();
            for hash in hashes {
                prop_assert!(built.may_contain(hash) && decoded.may_contain(hash));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(mut bytes: Vec<u8>, probes in 0u8..20, hash: u64) {
            let _ = Filter::decode(&bytes);
            let lines = bytes.len() / LINE_LEN;
            bytes.truncate(lines * LINE_LEN);
            let mut section = vec![KIND_BLOCKED_BLOOM, probes, 0, 0];
            section.extend_from_slice(&(lines as u32).to_le_bytes());
            section.extend_from_slice(&bytes);
            if let Ok(filter) = Filter::decode(&section) {
                filter.may_contain(hash);
            }
        }
    }
}
