//! Integers and byte strings in and out of buffers, bounds checked.
//!
//! ```text
//! fixed    u8, u16, u32, u64 little-endian
//! varint   LEB128: 7 bits a byte, low bits first, the top bit says that more follow; at most 10
//!          bytes, and no longer than needed
//! bytes    varint length, then the bytes
//! ```

use crate::error::Corruption;

/// What a decoder returns: the caller who knows path and offset wraps the error.
pub type Decoded<T> = Result<T, Corruption>;

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put_varint`] appends for `value`.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a byte string: varint length, then the bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front of a slice; every read is checked.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(Corruption::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Corruption::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    /// The next byte.
    #[inline]
    pub fn u8(&mut self) -> Decoded<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes.
    #[inline]
    pub fn u16(&mut self) -> Decoded<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes.
    #[inline]
    pub fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes.
    #[inline]
    pub fn u64(&mut self) -> Decoded<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next varint. Overlong and overflowing encodings are refused.
    #[inline]
    pub fn varint(&mut self) -> Decoded<u64> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.long_varint(first)
    }

    fn long_varint(&mut self, first: u8) -> Decoded<u64> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(Corruption::BadVarint);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 { Err(Corruption::BadVarint) } else { Ok(value) };
            }
        }
        Err(Corruption::BadVarint)
    }

    /// The next varint as a length or count of this machine.
    #[inline]
    pub fn len(&mut self) -> Decoded<usize> {
        usize::try_from(self.varint()?).map_err(|_| Corruption::Truncated)
    }

    /// The next byte string.
    #[inline]
    pub fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn overlong_varints_are_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).varint(), Err(Corruption::BadVarint));
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(Corruption::BadVarint));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(Corruption::Truncated));
    }

    proptest! {
        #[test]
        fn varints_come_back(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_reader_never_panics(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.bytes().is_ok() && !reader.is_empty() {}
        }
    }
}
