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
//!
//! Pages and changes are shared between copies until one of them is written to: a test keeps
//! thousands of disks that differ in a few bytes.

use std::hash::Hasher;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are shared or copied as a whole.
pub(super) const PAGE_LEN: usize = 4096;

type Page = [u8; PAGE_LEN];

/// Bytes with a length of their own; a page that was never written to is zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pages: Vec<Option<Arc<Page>>>,
    len: usize,
}

impl Content {
    pub(super) fn new(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.len {
            self.set_len(end);
        }
        let (head, rest) = split(bytes, PAGE_LEN - offset % PAGE_LEN);
        let pieces = std::iter::once(head).chain(rest.chunks(PAGE_LEN));
        let mut at = offset;
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            if let Some(page) = self.pages.get_mut(at / PAGE_LEN) {
                let page = Arc::make_mut(page.get_or_insert_with(|| Arc::new([0; PAGE_LEN])));
                let within = at % PAGE_LEN;
                if let Some(place) = page.get_mut(within..within + piece.len()) {
                    place.copy_from_slice(piece);
                }
            }
            at += piece.len();
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.pages.resize(len.div_ceil(PAGE_LEN), None);
        self.len = len;
        let used = len % PAGE_LEN;
        if let (1.., Some(Some(page))) = (used, self.pages.last_mut())
            && let Some(behind) = Arc::make_mut(page).get_mut(used..)
        {
            behind.fill(0);
        }
    }

    /// Fills `buffer` from `offset`; `false` if the content ends before that.
    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> bool {
        let fits = offset.checked_add(buffer.len()).is_some_and(|end| end <= self.len);
        if !fits {
            return false;
        }
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = at % PAGE_LEN;
            let count = rest.len().min(PAGE_LEN - within);
            let (piece, others) = rest.split_at_mut(count);
            match self.pages.get(at / PAGE_LEN) {
                Some(Some(page)) => {
                    piece.copy_from_slice(page.get(within..within + count).unwrap_or_default());
                }
                _ => piece.fill(0),
            }
            at += count;
            rest = others;
        }
        true
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(&mut bytes, 0);
        bytes
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => self.write(*offset, bytes),
            Change::SetLen(len) => self.set_len(*len),
        }
    }

    /// Adds the bytes to a digest; pages never written to count as zeros do.
    pub(super) fn digest(&self, digest: &mut Xxh3) {
        digest.write_usize(self.len);
        for (number, page) in self.pages.iter().enumerate() {
            if let Some(page) = page.as_ref().filter(|page| page.iter().any(|byte| *byte != 0)) {
                digest.write_usize(number);
                digest.write(&page[..]);
            }
        }
    }
}

/// A slice in two, the second part empty if it is too short.
pub(super) fn split<T>(slice: &[T], at: usize) -> (&[T], &[T]) {
    slice.split_at_checked(at).unwrap_or((slice, &[]))
}

/// A change of a file's bytes on its way to the disk.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    SetLen(usize),
}

/// A file, whatever its names.
#[derive(Clone, Debug)]
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
