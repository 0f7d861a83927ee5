//! Bytes that reads hand out.

use bytes::Bytes;
use std::ops::Deref;

/// A value (or key) read from the database: cheap to clone, shareable between threads, independent
/// of the database's life. Dereferences to `[u8]`.
///
/// Small values are copied out; a large one may keep the block it was read from in memory.
#[derive(Clone, Default, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Bytes);

impl Value {
    /// A copy of `bytes`.
    #[inline]
    pub(crate) fn copy_of(bytes: &[u8]) -> Value {
        Value(Bytes::copy_from_slice(bytes))
    }

    /// The bytes, sharing memory with this value.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Value {
    /// Prints the length only: values do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Vec<u8> {
        value.0.into()
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        *self.0 == *other.as_ref()
    }
}
