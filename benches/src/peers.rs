//! The engines under test, one file each.

pub mod esker;
#[cfg(feature = "peers")]
pub mod fjall;
#[cfg(feature = "peers")]
pub mod lmdb;
#[cfg(feature = "peers")]
pub mod redb;
#[cfg(feature = "peers")]
pub mod rocksdb;
#[cfg(feature = "peers")]
pub mod sled;
