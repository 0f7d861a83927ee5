//! The keys and values that every contender is given.
//!
//! A key is 16 bytes, made from the index of its record:
//!
//! ```text
//! hashed, scattered    8  big-endian mix(index)     8  big-endian index
//! hashed, ordered      8  big-endian index          8  big-endian mix(index)
//! decimal, ordered    16  the digits of 2 * index, padded with zeros
//! decimal, scattered  16  the same digits of a permutation of the index
//! ```
//!
//! `mix` is a bijection, so scattered keys of ascending indices come in random order and none comes
//! twice. Missing keys lie between present ones: hashed ones have indices no record has, decimal
//! ones are odd.
//!
//! A value is half random, half zeros, so a block of them compresses to about a half:
//!
//! ```text
//!  8  index      little-endian; a read checks it
//!  *  random     of index and version, up to half of the value
//!  *  zeros
//! ```

use std::hint::black_box;

/// Bytes of a key.
pub const KEY_LEN: usize = 16;

/// A key.
pub type Key = [u8; KEY_LEN];

/// How keys are made from indices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyShape {
    /// Eight hashed bytes and the index: what identifiers and digests look like.
    #[default]
    Hashed,
    /// Sixteen decimal digits: long shared prefixes, what `db_bench` uses.
    Decimal,
}

/// Spreads bits; a bijection of 64-bit integers.
#[inline]
pub fn mix(index: u64) -> u64 {
    let x = (index ^ (index >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The keys of a data set.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    shape: KeyShape,
    /// Indices are permuted within the power of two that holds all of them.
    mask: u64,
}

/// Records that workloads may add to a loaded store still fit the permutation.
const ROOM: u64 = 4;

impl Keys {
    /// The keys of `count` records, and of as many again that workloads insert.
    pub fn new(shape: KeyShape, count: u64) -> Keys {
        let mask = count.saturating_mul(ROOM).next_power_of_two().saturating_sub(1);
        Keys { shape, mask }
    }

    /// The key of `index` when ascending indices shall give ascending keys.
    #[inline]
    pub fn ordered(&self, index: u64) -> Key {
        match self.shape {
            KeyShape::Hashed => join(index, mix(index)),
            KeyShape::Decimal => decimal(index * 2),
        }
    }

    /// The key of `index` when ascending indices shall give keys in random order.
    #[inline]
    pub fn scattered(&self, index: u64) -> Key {
        match self.shape {
            KeyShape::Hashed => join(mix(index), index),
            KeyShape::Decimal => decimal(self.permuted(index) * 2),
        }
    }

    /// A key that no record has, between those that have one.
    #[inline]
    pub fn missing(&self, index: u64) -> Key {
        match self.shape {
            KeyShape::Hashed => join(mix(index | 1 << 48), index | 1 << 48),
            KeyShape::Decimal => decimal(self.permuted(index) * 2 + 1),
        }
    }

    /// A bijection within the mask: odd factors and shifted exclusive-ors are.
    #[inline]
    fn permuted(&self, index: u64) -> u64 {
        let half = (self.mask.count_ones() / 2).max(1);
        let x = (index & self.mask).wrapping_mul(0x9e37_79b9_7f4a_7c15) & self.mask;
        let x = (x ^ (x >> half)).wrapping_mul(0xbf58_476d_1ce4_e5b9) & self.mask;
        x ^ (x >> half)
    }
}

#[inline]
fn join(first: u64, second: u64) -> Key {
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

#[inline]
fn decimal(mut number: u64) -> Key {
    let mut key = [b'0'; KEY_LEN];
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    key
}

/// The values of a data set.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    len: usize,
}

impl Values {
    /// Values of `len` bytes.
    pub fn new(len: usize) -> Values {
        Values { len }
    }

    /// Bytes of a value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether values have no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes `value` the value of the record `index` in its `version`th writing.
    #[inline]
    pub fn fill(&self, value: &mut Vec<u8>, index: u64, version: u64) {
        let random = (self.len / 2).max(8);
        value.clear();
        value.extend_from_slice(&index.to_le_bytes());
        let mut state = mix(index ^ version.rotate_left(32)) | 1;
        while value.len() < random {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            value.extend_from_slice(&state.to_le_bytes());
        }
        value.truncate(random);
        value.resize(self.len, 0);
    }

    /// Whether `value` is one of the record `index`.
    #[inline]
    pub fn is_of(&self, value: &[u8], index: u64) -> bool {
        let shown = self.len.min(8);
        value.len() == self.len && value.get(..shown) == index.to_le_bytes().get(..shown)
    }

    /// Looks at a record that a scan passes.
    #[inline]
    pub fn look(key: &[u8], value: &[u8]) {
        black_box((key.first(), value.last()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn scattered_keys_come_once_each_and_missing_ones_never() {
        for shape in [KeyShape::Hashed, KeyShape::Decimal] {
            let keys = Keys::new(shape, 1000);
            let present: HashSet<Key> = (0..4000).map(|index| keys.scattered(index)).collect();
            assert_eq!(present.len(), 4000, "{shape:?}");
            assert!((0..4000).all(|index| !present.contains(&keys.missing(index))), "{shape:?}");
        }
    }

    #[test]
    fn ordered_keys_ascend() {
        for shape in [KeyShape::Hashed, KeyShape::Decimal] {
            let keys = Keys::new(shape, 1000);
            assert!((0..999).all(|index| keys.ordered(index) < keys.ordered(index + 1)));
        }
    }

    #[test]
    fn a_value_is_recognised_and_half_of_it_is_zeros() {
        for len in [1, 8, 13, 100, 4096] {
            let values = Values::new(len);
            let mut value = Vec::new();
            values.fill(&mut value, 7, 1);
            assert!(values.is_of(&value, 7) && !values.is_of(&value, 8), "{len}");
            assert!(value.iter().skip((len / 2).max(8)).all(|byte| *byte == 0));
        }
    }
}
