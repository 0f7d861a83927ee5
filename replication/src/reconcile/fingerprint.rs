//! Fingerprints: 256-bit sums of keyed digests, and counts.
//!
//! Source: Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing: Incrementality at
//! Reduced Cost" (Eurocrypt 1997), AdHash. A sum does not depend on order, and what leaves a set is
//! subtracted. It resists accidents and writers who do not know the group's key.

use base::{Origin, Stamp};

/// The key of one group's digests.
#[derive(Clone)]
pub struct ElementKey([u8; 32]);

impl ElementKey {
    /// The key of a group.
    pub fn of_group(group: &[u8]) -> ElementKey {
        ElementKey(blake3::derive_key("esker 2026 reconcile element", group))
    }

    /// The digest of the element called `name` in its version `stamp`, or of the erase just above it.
    pub fn digest(&self, name: &[u8], stamp: Stamp, is_erase: bool) -> ElementDigest {
        let mut bytes = [0; 8 + Origin::LEN];
        let (tick, origin) = bytes.split_at_mut(8);
        // A tick has 56 bits.
        let above = u64::from(is_erase) << 63;
        tick.copy_from_slice(&(stamp.tick.raw() | above).to_le_bytes());
        let (node, incarnation) = origin.split_at_mut(16);
        node.copy_from_slice(&stamp.origin.node.0);
        incarnation.copy_from_slice(&stamp.origin.incarnation.0.to_le_bytes());
        // The stamp has a fixed length and comes last, so no two elements hash the same bytes.
        let digest = blake3::Hasher::new_keyed(&self.0).update(name).update(&bytes).finalize();
        ElementDigest(*digest.as_bytes())
    }
}

/// The digest of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElementDigest([u8; 32]);

impl ElementDigest {
    /// What it is called in a list of elements.
    pub fn short(&self) -> u64 {
        let first = self.0.first_chunk::<8>().copied().unwrap_or_default();
        u64::from_le_bytes(first)
    }

    /// The digest that is `bytes`.
    #[cfg(test)]
    pub(crate) fn of(bytes: [u8; 32]) -> ElementDigest {
        ElementDigest(bytes)
    }
}

/// A number of 256 bits, least significant first; sums wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum([u64; 4]);

impl Sum {
    fn of(digest: &ElementDigest) -> Sum {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(digest.0.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default());
        }
        Sum(words)
    }

    fn plus(self, other: Sum) -> Sum {
        let mut carry = false;
        let mut words = self.0;
        for (word, add) in words.iter_mut().zip(other.0) {
            let (sum, over) = word.overflowing_add(add);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, over || over_again);
        }
        Sum(words)
    }

    fn minus(self, other: Sum) -> Sum {
        let mut borrow = false;
        let mut words = self.0;
        for (word, sub) in words.iter_mut().zip(other.0) {
            let (rest, under) = word.overflowing_sub(sub);
            let (rest, under_again) = rest.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (rest, under || under_again);
        }
        Sum(words)
    }
}

/// What a range of elements comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    sum: Sum,
    /// How many elements.
    pub count: u64,
}

impl Fingerprint {
    /// Bytes of the short form.
    pub const SHORT_LEN: usize = 8;
    /// Bytes of the long form, for ranges of many elements.
    pub const LONG_LEN: usize = 16;

    /// With one more element.
    pub fn add(&mut self, digest: &ElementDigest) {
        self.sum = self.sum.plus(Sum::of(digest));
        self.count += 1;
    }

    /// What both ranges come to together.
    pub fn plus(self, other: Fingerprint) -> Fingerprint {
        Fingerprint { sum: self.sum.plus(other.sum), count: self.count + other.count }
    }

    /// What is left without the part `other`.
    pub fn minus(self, other: Fingerprint) -> Fingerprint {
        let count = self.count.saturating_sub(other.count);
        Fingerprint { sum: self.sum.minus(other.sum), count }
    }

    /// Its form on the wire, of which the first bytes are sent. Not the sum itself, from which a
    /// listener could subtract.
    pub fn wire(&self) -> [u8; Fingerprint::LONG_LEN] {
        let mut hasher = blake3::Hasher::new();
        self.sum.0.iter().for_each(|word| {
            hasher.update(&word.to_le_bytes());
        });
        hasher.update(&self.count.to_le_bytes());
        let digest = hasher.finalize();
        digest.as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fingerprint(digests: &[[u8; 32]]) -> Fingerprint {
        let mut all = Fingerprint::default();
        digests.iter().for_each(|digest| all.add(&ElementDigest::of(*digest)));
        all
    }

    proptest! {
        /// Carries and borrows included: parts add up to the whole and come off it again.
        #[test]
        fn parts_add_up_in_any_order(a: Vec<[u8; 32]>, b: Vec<[u8; 32]>, high in 0usize..32) {
            let mut a = a;
            a.push([0xff; 32]);
            let mut full = [0; 32];
            full[high] = 0xff;
            a.push(full);
            let mut all = b.clone();
            all.extend(a.iter().rev());
            let (fa, fb, both) = (fingerprint(&a), fingerprint(&b), fingerprint(&all));
            prop_assert_eq!(fa.plus(fb), both);
            prop_assert_eq!(both.minus(fb), fa);
            prop_assert_eq!(both.minus(fa), fb);
        }
    }

    #[test]
    fn an_element_is_its_name_its_tick_and_its_author() {
        use base::{Incarnation, NodeId, Tick};
        let key = ElementKey::of_group(b"group");
        let origin = Origin { node: NodeId([1; 16]), incarnation: Incarnation(2) };
        let stamp = Stamp { tick: Tick::from_ms(3), origin };
        let digest = key.digest(b"name", stamp, false);
        assert_eq!(digest, key.digest(b"name", stamp, false));
        assert_ne!(digest, key.digest(b"nam", stamp, false));
        assert_ne!(digest, key.digest(b"name", Stamp { tick: Tick::from_ms(4), ..stamp }, false));
        let other = Origin { incarnation: Incarnation(3), ..origin };
        assert_ne!(digest, key.digest(b"name", Stamp { origin: other, ..stamp }, false));
        assert_ne!(digest, ElementKey::of_group(b"other").digest(b"name", stamp, false));
        assert_ne!(digest, key.digest(b"name", stamp, true));
    }
}
