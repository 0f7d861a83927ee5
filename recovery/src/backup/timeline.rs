//! Which moments a store can bring back.
//!
//! A backup with tables is a moment by itself. From there on segments lead to later ones, as long as
//! each names the one before it, and no bulk load, which no segment holds, stands between.

use super::record::{BackupRecord, StoredSegment};
use super::store::Shelf;
use base::{Error, Moment, Result, Tick};

/// What to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePoint {
    /// The newest moment of the newest backup.
    Newest,
    /// The end of a millisecond, given since the Unix epoch.
    Moment(u64),
    /// All commits up to this one.
    Tick(Tick),
}

/// A stretch of time that one backup and the segments behind it cover.
#[derive(Clone, Debug)]
pub(crate) struct Stretch<'s> {
    /// Where it starts.
    pub(crate) base: &'s BackupRecord,
    /// The segments that lead on, oldest first.
    pub(crate) segments: Vec<&'s StoredSegment>,
    /// The last tick that is covered.
    pub(crate) until: Tick,
}

/// A span of moments that can be restored, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first millisecond.
    pub from_ms: u64,
    /// Its last millisecond.
    pub until_ms: u64,
}

impl Stretch<'_> {
    /// The whole milliseconds that it covers.
    fn span(&self) -> Option<Span> {
        let until_ms = match self.until == Tick::last_of_ms(self.until.ms()) {
            true => self.until.ms(),
            false => self.until.ms().checked_sub(1)?,
        };
        let from_ms = self.base.base().ms();
        (from_ms <= until_ms).then_some(Span { from_ms, until_ms })
    }
}

impl Shelf {
    /// The stretch of time from `base` on.
    pub(crate) fn stretch<'s>(&'s self, base: &'s BackupRecord) -> Stretch<'s> {
        let life = base.identity.incarnation;
        let lives = |record: &&BackupRecord| record.identity.incarnation == life;
        let of_life: Vec<&BackupRecord> = self.records.iter().filter(lives).collect();
        let mut stretch = Stretch { base, segments: Vec::new(), until: base.base() };
        let mut at = base.start;
        loop {
            let here = of_life.iter().filter(|record| record.log.number == at);
            let covered = here.map(|record| record.covered);
            stretch.until = covered.fold(stretch.until, Tick::max);
            let Some(segment) = self.segment(life, at) else { break };
            stretch.segments.push(segment);
            stretch.until = stretch.until.max(segment.last);
            let segments = of_life.iter().flat_map(|record| &record.segments);
            let followers = segments.filter(|next| next.previous == at).map(|next| next.number);
            let places = of_life.iter().filter(|record| record.log.previous == at);
            let places = places.map(|record| record.log.number);
            let Some(next) = followers.chain(places).filter(|next| *next > at).max() else { break };
            at = next;
        }
        let ingests = of_life.iter().flat_map(|record| &record.ingests);
        let barrier = ingests.filter(|ingest| **ingest > base.state.flushed).min();
        if let Some(barrier) = barrier {
            stretch.until = stretch.until.min(barrier.previous());
        }
        stretch
    }

    /// The moments that can be restored from one backup, with the log behind it.
    pub fn span(&self, record: &BackupRecord) -> Option<Span> {
        if record.has_tables() { self.stretch(record).span() } else { None }
    }

    /// The spans of moments that can be restored, in order, merged where they meet.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> =
            self.records.iter().filter_map(|record| self.span(record)).collect();
        spans.sort_by_key(|span| (span.from_ms, span.until_ms));
        let mut merged: Vec<Span> = Vec::new();
        for span in spans {
            match merged.last_mut() {
                Some(last) if span.from_ms <= last.until_ms.saturating_add(1) => {
                    last.until_ms = last.until_ms.max(span.until_ms);
                }
                _ => merged.push(span),
            }
        }
        merged
    }

    /// The stretch to restore `point` from, and the last tick to take from it: the newest backup at or
    /// before it from which all commits up to it are there.
    pub(crate) fn choose(&self, point: RestorePoint) -> Result<(Stretch<'_>, Tick)> {
        let mut bases: Vec<&BackupRecord> =
            self.records.iter().filter(|record| record.has_tables()).collect();
        if bases.is_empty() {
            return Err(Error::invalid("there is no backup to restore from"));
        }
        let asked = match point {
            RestorePoint::Moment(ms) => Tick::last_of_ms(ms),
            RestorePoint::Tick(tick) => tick,
            RestorePoint::Newest => {
                bases.sort_by_key(|record| record.number);
                let newest = bases.last().map(|base| self.stretch(base));
                let newest = newest.filter(|stretch| stretch.until >= stretch.base.base());
                let until = newest.map(|stretch| (stretch.until, stretch));
                return until
                    .map(|(until, stretch)| (stretch, until))
                    .ok_or_else(|| self.not_covered("the newest moment"));
            }
        };
        bases.sort_by_key(|record| (record.base(), record.number));
        let stretches = bases.into_iter().rev().filter(|base| base.base() <= asked);
        let mut reaching = stretches.map(|base| self.stretch(base));
        match reaching.find(|stretch| stretch.until >= asked) {
            Some(stretch) => Ok((stretch, asked)),
            None => Err(self.not_covered(&Moment { ms: asked.ms() }.to_string())),
        }
    }

    fn not_covered(&self, what: &str) -> Error {
        let moment = |ms| Moment { ms };
        let spans: Vec<String> = self
            .spans()
            .iter()
            .map(|span| format!("{} to {}", moment(span.from_ms), moment(span.until_ms)))
            .collect();
        let spans = if spans.is_empty() { "nothing".to_owned() } else { spans.join(", ") };
        Error::invalid(format!("{what} is not covered; the backups cover {spans}"))
    }
}
