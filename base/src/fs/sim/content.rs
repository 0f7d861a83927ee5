//! The bytes of one simulated file: what readers see, what is safe, and what lies between.
//!
//! ```text
//! base -> pending[..promised] -> pending[promised..] -> seen
//!         secured by last sync   at risk
//! ```
//!
//! Invariant: `seen` is `base` with all of `pending` applied, unless a sync failed: then what was
//! at risk stays in `seen` and never reaches the disk, as with a page cache that drops dirty
//! pages.

/// Bytes with a length of their own; behind the stored ones they are zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    bytes: Vec<u8>,
    len: usize,
}

impl Content {
    pub(super) fn new(bytes: Vec<u8>) -> Content {
        Content { len: bytes.len(), bytes }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.len = self.len.max(end);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(place) = self.bytes.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.len = len;
    }

    /// Fills `buffer` from `offset`; `false` if the content ends before that.
    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> bool {
        let fits = offset.checked_add(buffer.len()).is_some_and(|end| end <= self.len);
        if fits {
            buffer.fill(0);
            let stored = self.bytes.get(offset..).unwrap_or_default();
            for (to, from) in buffer.iter_mut().zip(stored) {
                *to = *from;
            }
        }
        fits
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(self.len, 0);
        bytes
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => self.write(*offset, bytes),
            Change::SetLen(len) => self.set_len(*len),
        }
    }
}

/// A change of a file's bytes on its way to the disk.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// A file, whatever its names.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) id: u64,
    /// How many names it has.
    pub(super) links: usize,
    seen: Content,
    base: Content,
    pending: Vec<Change>,
    promised: usize,
}

impl Inode {
    /// A file whose bytes are safe.
    pub(super) fn new(id: u64, content: Content) -> Inode {
        let base = content.clone();
        Inode { id, links: 0, seen: content, base, pending: Vec::new(), promised: 0 }
    }

    /// What readers see.
    pub(super) fn seen(&self) -> &Content {
        &self.seen
    }

    /// What the disk had before the last sync.
    pub(super) fn base(&self) -> &Content {
        &self.base
    }

    /// What the last sync secured.
    pub(super) fn safe(&self) -> Content {
        let mut safe = self.base.clone();
        self.pending.iter().take(self.promised).for_each(|change| safe.apply(change));
        safe
    }

    /// The changes that no sync has secured.
    pub(super) fn at_risk(&self) -> &[Change] {
        self.pending.get(self.promised..).unwrap_or_default()
    }

    pub(super) fn change(&mut self, change: Change) {
        self.seen.apply(&change);
        self.pending.push(change);
    }

    /// Secures every change so far.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..self.promised) {
            self.base.apply(&change);
        }
        self.promised = self.pending.len();
    }

    /// What a failed sync does: the changes at risk will never reach the disk.
    pub(super) fn lose_risked(&mut self) {
        self.pending.truncate(self.promised);
    }
}
