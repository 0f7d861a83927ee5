//! A position among one keyspace's entries in a memtable.

use super::Memtable;
use super::arena::Place;
use super::list::List;
use base::{Cursor, Result, Trailer};
use std::sync::Arc;

/// Sees entries inserted while it lives, if it has not passed their place; readers filter by seqno.
#[derive(Debug)]
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    /// None while the keyspace has no entry here.
    head: Option<Place>,
    /// The entry it stands on; 0 while invalid.
    node: Place,
}

impl MemtableCursor {
    pub(super) fn new(memtable: Arc<Memtable>, head: Option<Place>) -> MemtableCursor {
        MemtableCursor { memtable, head, node: 0 }
    }

    #[inline]
    fn list(&self) -> Option<List<'_>> {
        Some(List::new(&self.memtable.arena, self.head?))
    }

    #[inline]
    fn place(&mut self, at: impl FnOnce(List<'_>) -> Place) {
        self.node = self.list().map_or(0, at);
    }

    /// Whether the keyspace had any entry here when the cursor was made.
    pub(crate) fn has_entries(&self) -> bool {
        self.head.is_some()
    }
}

impl Cursor for MemtableCursor {
    fn seek_first(&mut self) -> Result<()> {
        self.place(|list| list.first());
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        self.place(|list| list.last());
        Ok(())
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<()> {
        self.place(|list| list.seek(key, trailer));
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.place(|list| list.seek_before(key));
        Ok(())
    }

    #[inline]
    fn advance(&mut self) -> Result<()> {
        let node = self.node;
        if node != 0 {
            self.place(|list| list.after(node));
        }
        Ok(())
    }

    fn retreat(&mut self) -> Result<()> {
        let node = self.node;
        if node != 0 {
            self.place(|list| list.before(node));
        }
        Ok(())
    }

    #[inline]
    fn is_valid(&self) -> bool {
        self.node != 0
    }

    #[inline]
    fn key(&self) -> &[u8] {
        if self.node == 0 { &[] } else { self.list().map_or(&[], |list| list.key(self.node)) }
    }

    #[inline]
    fn trailer(&self) -> Trailer {
        if self.node == 0 {
            return Trailer::MIN;
        }
        self.list().map_or(Trailer::MIN, |list| list.trailer(self.node))
    }

    #[inline]
    fn value(&self) -> &[u8] {
        if self.node == 0 { &[] } else { self.list().map_or(&[], |list| list.value(self.node)) }
    }
}
