//! Sorted tables, the cache of their blocks, and the manifest that names them.
//!
//! A table is one immutable file of entries in order, written once by a [`TableWriter`] and read
//! through a [`Table`]. This crate knows neither the log nor which entries a reader may see.
//!
//! ```text
//! writer -> block, filter, index, range deletes, properties, footer -> TableMeta -> manifest
//! table  -> filter -> index -> cache -> block -> entry
//! ```

pub mod block;
pub mod cache;
pub mod manifest;
pub mod meta;
pub mod writer;

pub use block::Block;
pub use cache::Cache;
pub use meta::{TableKey, TableMeta};
pub use writer::TableOwner;
