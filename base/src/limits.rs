//! The limits users meet. Each is checked once, where data enters, with an error naming limit and
//! value.

use crate::error::{Error, Result};

/// Bytes of a key: at least 1.
pub const KEY_LEN_MAX: usize = 65_535;
/// Bytes of a value.
pub const VALUE_LEN_MAX: usize = 32 << 20;
/// Bytes of an encoded batch.
pub const BATCH_LEN_MAX: usize = 64 << 20;
/// Ops of a batch: who takes it from another node holds far more of each than its four bytes at least.
pub const BATCH_OPS_MAX: u64 = 1 << 18;
/// Bytes of a keyspace's name: at least 1, UTF-8.
pub const KEYSPACE_NAME_LEN_MAX: usize = 255;

/// Keyspaces of a node from which on its peers bring no more of them, dropped ones included.
pub const KEYSPACES_MAX: usize = 1 << 16;

/// Refuses a key that is empty or too long.
#[inline]
pub fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        1..=KEY_LEN_MAX => Ok(()),
        0 => Err(Error::invalid("a key may not be empty; it has 1 to 65535 bytes")),
        len => Err(Error::too_large("key", KEY_LEN_MAX as u64, len as u64)),
    }
}

/// Refuses a value that is too long.
#[inline]
pub fn check_value(value: &[u8]) -> Result<()> {
    match value.len() {
        0..=VALUE_LEN_MAX => Ok(()),
        len => Err(Error::too_large("value", VALUE_LEN_MAX as u64, len as u64)),
    }
}

/// Refuses a batch of too many ops, or whose encoding is too long.
#[inline]
pub fn check_batch(ops: u64, len: usize) -> Result<()> {
    if ops > BATCH_OPS_MAX {
        return Err(Error::too_large("number of writes in a batch", BATCH_OPS_MAX, ops));
    }
    if len > BATCH_LEN_MAX {
        return Err(Error::too_large("batch", BATCH_LEN_MAX as u64, len as u64));
    }
    Ok(())
}

/// Refuses a keyspace name that is empty, too long, or holds control characters.
pub fn check_keyspace_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("a keyspace name may not be empty; it has 1 to 255 bytes"));
    }
    if name.len() > KEYSPACE_NAME_LEN_MAX {
        let limit = KEYSPACE_NAME_LEN_MAX as u64;
        return Err(Error::too_large("keyspace name", limit, name.len() as u64));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid("a keyspace name may not hold control characters"));
    }
    Ok(())
}
