//! Keys and values that a reader can check without remembering them.
//!
//! ```text
//! key      16 decimal digits of its number, so that keys sort like numbers
//! value    the key's number, 8 bytes little-endian, as far as it fits; then a stream of bytes
//!          that compresses to about half
//! ```

/// The key of `number`.
pub(super) fn write_key(number: u64, key: &mut [u8; 16]) {
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// A value for the key `number`; `salt` makes later values differ.
pub(super) fn write_value(number: u64, salt: u64, value: &mut [u8]) {
    let mut state = number ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in value.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // The upper half is zero: real values are not noise.
        let word = (state & 0xffff_ffff).to_le_bytes();
        for (to, from) in chunk.iter_mut().zip(word) {
            *to = from;
        }
    }
    for (to, from) in value.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
}

/// Whether `value` can be what was written for the key `number`.
pub(super) fn is_value_of(number: u64, value: &[u8], len: usize) -> bool {
    value.len() == len && value.iter().zip(number.to_le_bytes()).all(|(a, b)| *a == b)
}

/// The numbers below a bound in an order that looks random, each once.
///
/// A Feistel network of four rounds over the smallest even number of bits that holds them; what
/// lands outside is sent through again (cycle walking).
#[derive(Clone, Copy, Debug)]
pub(super) struct Shuffle {
    bound: u64,
    half_bits: u32,
    seed: u64,
}

impl Shuffle {
    /// The order of the numbers below `bound` that `seed` gives.
    pub(super) fn new(bound: u64, seed: u64) -> Shuffle {
        let bits = u64::BITS - bound.saturating_sub(1).leading_zeros();
        Shuffle { bound, half_bits: bits.div_ceil(2).max(1), seed }
    }

    /// The number at place `index`, which is below the bound.
    pub(super) fn at(&self, index: u64) -> u64 {
        let mut number = index;
        loop {
            number = self.permute(number);
            if number < self.bound {
                return number;
            }
        }
    }

    fn permute(&self, number: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for round in 0..4 {
            let mixed = mix(right ^ self.seed.wrapping_add(round)) & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << self.half_bits | right
    }
}

/// Spreads every bit over the whole word (the finaliser of SplitMix64).
pub(super) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once_and_out_of_order() {
        for bound in [1, 2, 3, 7, 64, 1000, 4097] {
            let shuffle = Shuffle::new(bound, 7);
            let mut numbers: Vec<u64> = (0..bound).map(|index| shuffle.at(index)).collect();
            if bound >= 1000 {
                assert!(numbers.windows(2).filter(|pair| pair[0] < pair[1]).count() > 400);
                assert!(!numbers.is_sorted());
            }
            numbers.sort_unstable();
            assert!(numbers.iter().copied().eq(0..bound), "{bound}");
        }
    }

    #[test]
    fn a_value_knows_its_key() {
        for len in [0, 3, 8, 100] {
            let mut value = vec![0; len];
            write_value(258, 1, &mut value);
            assert!(is_value_of(258, &value, len));
            assert!(!is_value_of(258, &value, len + 1));
            assert_eq!(is_value_of(259, &value, len), len == 0);
        }
    }

    #[test]
    fn keys_sort_like_numbers() {
        let key = |number| {
            let mut key = [0; 16];
            write_key(number, &mut key);
            key
        };
        assert_eq!(&key(1234), b"0000000000001234");
        assert!(key(99) < key(100));
    }
}
