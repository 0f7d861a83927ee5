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
pub mod cursor;
pub mod filter;
pub mod manifest;
pub mod meta;
pub mod range_delete;
pub mod table;
pub mod writer;

mod bytes;
mod compression;
mod footer;
mod index;
mod properties;
mod tally;

pub use block::Block;
pub use cache::{Cache, CacheStats, CachedBlock};
pub use compression::Compression;
pub use cursor::{ReadMode, TableCursor};
pub use meta::{TableKey, TableMeta, TableSource};
pub use properties::SpaceUsage;
pub use range_delete::RangeDelete;
pub use table::Table;
pub use writer::{Authors, TableOwner, TableWriter, WriterOptions};
