//! Two textbook policies, by bytes: LRU, and ARC as in Megiddo and Modha, "ARC: A Self-Tuning, Low
//! Overhead Replacement Cache" (FAST 2003), figure 4. Slow and plain on purpose.

use std::collections::{BTreeMap, HashMap};

/// A block that is read: its key and its weight.
pub(super) type Read = (u64, usize);

/// A policy that is shown every read.
pub(super) trait Oracle {
    /// Reads a block; says whether it was in memory.
    fn read(&mut self, read: Read) -> bool;
}

/// Keys from the least to the most recently used.
#[derive(Default)]
struct Recency {
    order: BTreeMap<u64, Read>,
    places: HashMap<u64, u64>,
    clock: u64,
    bytes: usize,
}

impl Recency {
    fn push(&mut self, read: Read) {
        self.clock += 1;
        self.order.insert(self.clock, read);
        assert!(self.places.insert(read.0, self.clock).is_none(), "a key is in a list once");
        self.bytes += read.1;
    }

    fn take(&mut self, key: u64) -> Option<Read> {
        let read = self.order.remove(&self.places.remove(&key)?)?;
        self.bytes -= read.1;
        Some(read)
    }

    fn take_oldest(&mut self) -> Option<Read> {
        let key = self.order.first_key_value()?.1.0;
        self.take(key)
    }

    fn has(&self, key: u64) -> bool {
        self.places.contains_key(&key)
    }
}

/// Least recently used goes first.
pub(super) struct Lru {
    capacity: usize,
    list: Recency,
}

impl Lru {
    pub(super) fn new(capacity: usize) -> Lru {
        Lru { capacity, list: Recency::default() }
    }
}

impl Oracle for Lru {
    fn read(&mut self, read: Read) -> bool {
        let is_hit = self.list.take(read.0).is_some();
        self.list.push(read);
        while self.list.bytes > self.capacity {
            self.list.take_oldest();
        }
        is_hit
    }
}

/// ARC(c): T1 and T2 in memory, B1 and B2 remembered, p the target for T1.
pub(super) struct Arc {
    c: usize,
    p: usize,
    t1: Recency,
    t2: Recency,
    b1: Recency,
    b2: Recency,
}

impl Arc {
    pub(super) fn new(c: usize) -> Arc {
        let (t1, t2, b1, b2) = Default::default();
        Arc { c, p: 0, t1, t2, b1, b2 }
    }

    /// REPLACE(x, p), until x fits.
    fn replace(&mut self, read: Read, is_in_b2: bool) {
        while self.t1.bytes + self.t2.bytes + read.1 > self.c {
            let t1 = self.t1.bytes;
            if t1 > 0 && (t1 > self.p || (is_in_b2 && t1 == self.p) || self.t2.bytes == 0) {
                self.t1.take_oldest().into_iter().for_each(|old| self.b1.push(old));
            } else {
                self.t2.take_oldest().into_iter().for_each(|old| self.b2.push(old));
            }
        }
    }

    fn scaled(weight: usize, other: usize, own: usize) -> usize {
        (weight as f64 * (other as f64 / own as f64).max(1.0)) as usize
    }
}

impl Oracle for Arc {
    fn read(&mut self, read: Read) -> bool {
        let (key, weight) = read;
        // Case I: a hit.
        if self.t1.take(key).is_some() || self.t2.take(key).is_some() {
            self.t2.push(read);
            return true;
        }
        // Case II: remembered from T1.
        if self.b1.has(key) {
            self.p = (self.p + Self::scaled(weight, self.b2.bytes, self.b1.bytes)).min(self.c);
            self.replace(read, false);
            self.b1.take(key);
            self.t2.push(read);
            return false;
        }
        // Case III: remembered from T2.
        if self.b2.has(key) {
            let step = Self::scaled(weight, self.b1.bytes, self.b2.bytes);
            self.p = self.p.saturating_sub(step);
            self.replace(read, true);
            self.b2.take(key);
            self.t2.push(read);
            return false;
        }
        // Case IV: new.
        while self.t1.bytes + self.b1.bytes + weight > self.c {
            if self.b1.take_oldest().is_none() {
                self.t1.take_oldest();
            }
        }
        let all = |arc: &Arc| arc.t1.bytes + arc.t2.bytes + arc.b1.bytes + arc.b2.bytes;
        while all(self) + weight > 2 * self.c && self.b2.take_oldest().is_some() {}
        self.replace(read, false);
        self.t1.push(read);
        false
    }
}
