//! The elements of a moment.

use super::content::{Content, Place, Range, Says, Version};
use super::delta::{Item, with_entry};
use super::head_of;
use super::life::Life;
use crate::store::{DeltaHead, Element, Moment};
use base::Result;
use base::state::{StateEntry, StateKind};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A copy of what is there.
pub(super) struct MemoryMoment {
    head: DeltaHead,
    is_whole: bool,
    points: BTreeMap<Vec<u8>, (Place, Version)>,
    ranges: Vec<Range>,
}

impl MemoryMoment {
    pub(super) fn of(life: &Life) -> MemoryMoment {
        let Content { points, ranges } = &life.content;
        let named = points.iter().map(|(place, version)| {
            let name = [place.0.as_bytes(), &[0], &place.1].concat();
            (name, (place.clone(), version.clone()))
        });
        let (points, ranges) = (named.collect(), ranges.clone());
        MemoryMoment { head: head_of(life), is_whole: life.is_whole, points, ranges }
    }

    /// The newest range delete over a key.
    fn covering(&self, place: &Place) -> Option<base::Stamp> {
        self.ranges.iter().filter(|range| range.has(place)).map(|range| range.stamp).max()
    }
}

impl Moment for MemoryMoment {
    fn head(&self) -> &DeltaHead {
        &self.head
    }

    fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], Option<Element>) -> bool,
    ) -> Result<()> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let within = self.points.range::<[u8], _>((Bound::Included(from), upper));
        for (name, (_, version)) in within {
            let (stamp, carrier) = (version.stamp, version.as_ruled().carrier);
            let is_erase = matches!(version.says, Says::Erase { .. });
            let lasts_until_ms = match version.says {
                Says::Put { expires_at_ms, .. } => expires_at_ms.unwrap_or(u64::MAX),
                Says::Delete | Says::Erase { .. } => 0,
            };
            if !each(name, Some(Element { stamp, carrier, is_erase, lasts_until_ms })) {
                break;
            }
        }
        Ok(())
    }

    fn look_up(&self, name: &[u8], found: &mut dyn FnMut(&StateEntry<'_>)) -> Result<()> {
        if let Some((place, version)) = self.points.get(name) {
            // What a range delete hides is not kept.
            with_entry(&Item::Point(place.clone(), version.clone()), |entry| found(entry));
            return Ok(());
        }
        let mut parts = name.splitn(2, |byte| *byte == 0);
        let keyspace = parts.next().and_then(|name| std::str::from_utf8(name).ok());
        let (keyspace, key) = (keyspace.unwrap_or_default(), parts.next().unwrap_or_default());
        let place = (keyspace.to_owned(), key.to_vec());
        if let Some(stamp) = self.covering(&place) {
            found(&StateEntry { keyspace, key, stamp, kind: StateKind::Delete });
        }
        Ok(())
    }
}
