//! A position in a sorted run of entries.

use crate::error::Result;
use crate::key::Trailer;

/// A position in a sorted run of entries of one keyspace: a memtable, a table, or a merge of them.
///
/// Entries are ordered by user key ascending, then trailer descending (newest first). A cursor
/// stands nowhere until it is placed by one of the `seek` methods. After an error it is spent:
/// drop it.
pub trait Cursor {
    /// Moves to the first entry of the run.
    fn seek_first(&mut self) -> Result<()>;
    /// Moves to the last entry of the run.
    fn seek_last(&mut self) -> Result<()>;
    /// Moves to the first entry at or after (`key`, `trailer`).
    ///
    /// With [`Trailer::MAX`] that is the newest version of the first key at or after `key`.
    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<()>;
    /// Moves to the last entry whose key is strictly below `key`.
    fn seek_before(&mut self, key: &[u8]) -> Result<()>;
    /// Moves one entry forward. Past the last entry the cursor is invalid.
    fn advance(&mut self) -> Result<()>;
    /// Moves one entry back. Before the first entry the cursor is invalid.
    fn retreat(&mut self) -> Result<()>;
    /// Whether the cursor stands on an entry.
    fn is_valid(&self) -> bool;
    /// The user key here. Empty if the cursor is invalid. Valid until the cursor moves.
    fn key(&self) -> &[u8];
    /// The trailer here; [`Trailer::MIN`] if the cursor is invalid.
    fn trailer(&self) -> Trailer;
    /// The stored value here (for kinds that prefix it, with that prefix). Empty if invalid.
    fn value(&self) -> &[u8];
}
