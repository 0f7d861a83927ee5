//! What users walk through entries with.

use crate::bounds::Bounds;
use crate::parts::Reader;
use crate::scan::Scan;
use crate::value::Value;
use base::Result;

/// Entries of a range of keys, as of the moment it was made. Items are `Result<(key, value)>`; after
/// an error it ends. Owns what it reads from: it may outlive every handle and move between threads.
pub struct Iter {
    reader: Reader,
    bounds: Bounds,
    front: Option<Scan>,
    back: Option<Scan>,
    fills_cache: bool,
    is_done: bool,
}

impl Iter {
    pub(crate) fn new(reader: Reader, bounds: Bounds) -> Iter {
        let is_done = bounds.is_empty();
        Iter { reader, bounds, front: None, back: None, fills_cache: true, is_done }
    }

    /// Whether blocks that it reads from now on go into the cache. Default true; see [`Cursor::fill_cache`].
    pub fn fill_cache(&mut self, fill: bool) {
        self.fills_cache = fill;
        [&mut self.front, &mut self.back].into_iter().flatten().for_each(|it| it.fill_cache(fill));
    }

    /// Moves the front to its next entry. Returns whether there is one; then `front` stands on it.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        if self.is_done {
            return Ok(false);
        }
        let result = self.advance_front();
        if !matches!(result, Ok(true)) {
            self.finish();
        }
        result
    }

    fn advance_front(&mut self) -> Result<bool> {
        let front = match &mut self.front {
            Some(front) => {
                front.advance()?;
                front
            }
            none => {
                let front = none.insert(scan(&self.reader, self.fills_cache)?);
                front.seek(&self.bounds.start)?;
                front
            }
        };
        let is_before_end = self.bounds.end.is_empty() || front.key() < &*self.bounds.end;
        let is_before_back = self.back.as_ref().is_none_or(|back| front.key() < back.key());
        Ok(front.is_valid() && is_before_end && is_before_back)
    }

    fn retreat_back(&mut self) -> Result<bool> {
        let back = match &mut self.back {
            Some(back) => {
                back.retreat()?;
                back
            }
            none => {
                let back = none.insert(scan(&self.reader, self.fills_cache)?);
                match &*self.bounds.end {
                    [] => back.seek_last()?,
                    end => back.seek_before(end)?,
                }
                back
            }
        };
        let is_after_start = back.key() >= &*self.bounds.start;
        let is_after_front = self.front.as_ref().is_none_or(|front| back.key() > front.key());
        Ok(back.is_valid() && is_after_start && is_after_front)
    }

    fn finish(&mut self) {
        self.is_done = true;
        self.front = None;
        self.back = None;
    }

    fn item(
        &mut self,
        moved: Result<bool>,
        from: fn(&Iter) -> Option<&Scan>,
    ) -> Option<<Iter as Iterator>::Item> {
        match moved {
            Ok(true) => {
                let entry = from(self)?;
                Some(Ok((Value::copy_of(entry.key()), Value::copy_of(entry.value()))))
            }
            Ok(false) => {
                self.finish();
                None
            }
            Err(error) => {
                self.finish();
                Some(Err(error))
            }
        }
    }
}

/// A scan that stands nowhere.
fn scan(reader: &Reader, fills_cache: bool) -> Result<Scan> {
    let mut scan = reader.scan()?;
    scan.fill_cache(fills_cache);
    Ok(scan)
}

impl Iterator for Iter {
    type Item = Result<(Value, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let moved = self.advance_front();
        self.item(moved, |iter| iter.front.as_ref())
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let moved = self.retreat_back();
        self.item(moved, |iter| iter.back.as_ref())
    }
}

impl std::iter::FusedIterator for Iter {}

/// A place among the entries of a keyspace, as of the moment it was made. Lends what it shows, and
/// can be placed again at will: the cheapest way to scan. Stands nowhere until it is placed.
pub struct Cursor {
    scan: Scan,
}

impl Cursor {
    pub(crate) fn new(reader: Reader) -> Result<Cursor> {
        Ok(Cursor { scan: reader.scan()? })
    }

    /// Whether blocks that it reads from now on go into the cache. Default true.
    ///
    /// A long scan that nobody repeats soon takes the place of what others read. Without the cache blocks
    /// that are in it are used all the same, and others are read in stretches of 32 to 256 KiB: faster for
    /// who goes on, slower for who reads a few entries.
    pub fn fill_cache(&mut self, fill: bool) {
        self.scan.fill_cache(fill);
    }

    /// Moves to the first entry at or after `key`.
    #[inline]
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.scan.seek(key.as_ref())
    }

    /// Moves to the last entry whose key is below `key`.
    pub fn seek_before(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        self.scan.seek_before(key.as_ref())
    }

    /// Moves to the first entry.
    pub fn seek_first(&mut self) -> Result<()> {
        self.scan.seek_first()
    }

    /// Moves to the last entry.
    pub fn seek_last(&mut self) -> Result<()> {
        self.scan.seek_last()
    }

    /// Moves to the next entry. Past the last one the cursor stands nowhere.
    #[inline]
    pub fn advance(&mut self) -> Result<()> {
        self.scan.advance()
    }

    /// Moves to the entry before. Before the first one the cursor stands nowhere.
    pub fn retreat(&mut self) -> Result<()> {
        self.scan.retreat()
    }

    /// The key and value here, or `None` where it stands nowhere. Valid until the cursor moves.
    #[inline]
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.scan.is_valid().then(|| (self.scan.key(), self.scan.value()))
    }

    /// Until when the entry here lasts; 0 = for ever. Only for cursors that move forward.
    pub(crate) fn expires_at_ms(&self) -> u64 {
        self.scan.expires_at_ms()
    }
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Iter")
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cursor")
    }
}
