//! What of a moment is compared.
//!
//! Only what both sides have received: the rest is lag. And of tombstones, and of entries that expire
//! soon, only those that neither floor has passed, for each node drops such things when it likes.

use super::message::{Head, HeadDigest};
use crate::reconcile::{ElementDigest, ElementKey, Elements};
use crate::store::{Element, Moment};
use base::{Result, Vector};

/// The elements of a moment.
pub(super) struct Filtered {
    pub(super) moment: Box<dyn Moment>,
    key: ElementKey,
    /// What both sides have received.
    pub(super) known: Vector,
    /// Both floors.
    floor: Vector,
    /// Whether the other side can have forgotten only what had been received here.
    pub(super) knows_forgotten: bool,
    /// What is a value until then stays so while this is compared, whoever's clock is asked.
    pub(super) horizon_ms: u64,
}

impl Filtered {
    /// Those that are compared with a side whose head is the same.
    pub(super) fn of(moment: Box<dyn Moment>, key: ElementKey, horizon_ms: u64) -> Filtered {
        let (known, floor) = (moment.head().vector.clone(), moment.head().floor.clone());
        Filtered { moment, key, known, floor, knows_forgotten: true, horizon_ms }
    }

    /// Those that are compared with a side that has another head.
    pub(super) fn against(self, theirs: &Head) -> Filtered {
        let head = self.moment.head();
        let (known, mut floors) = (head.vector.common(&theirs.vector), head.floor.clone());
        floors.raise_all(&theirs.floor);
        // Their moment may be younger: a deletion may have come to both since ours, and be forgotten.
        let knows_forgotten = head.vector.covers_all(&theirs.floor);
        let horizon_ms = self.horizon_ms.max(theirs.horizon_ms);
        Filtered { known, floor: floors, knows_forgotten, horizon_ms, ..self }
    }

    fn counts(&self, element: &Element) -> bool {
        let stays =
            element.lasts_until_ms > self.horizon_ms || !self.floor.covers_stamp(element.carrier);
        stays && self.known.covers_stamp(element.carrier)
    }
}

impl Elements for Filtered {
    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<&ElementDigest>) -> bool,
    ) -> Result<()> {
        self.moment.scan(from, to, &mut |name, element| {
            let counted = element.filter(|element| self.counts(element));
            let digest = counted.map(|it| self.key.digest(name, it.stamp, it.is_erase));
            each(name, digest.as_ref())
        })
    }
}

/// By this two sides know that they have the same head.
pub(super) fn head_digest(moment: &dyn Moment) -> HeadDigest {
    let mut bytes = Vec::new();
    moment.head().vector.encode(&mut bytes);
    moment.head().floor.encode(&mut bytes);
    let mut digest = HeadDigest::default();
    blake3::Hasher::new().update(&bytes).finalize_xof().fill(&mut digest);
    digest
}
