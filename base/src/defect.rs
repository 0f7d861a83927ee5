//! Deliberate defects, to measure what the tests are worth.
//!
//! A build with `--cfg esker_defects` contains all of them, and the environment variable
//! `ESKER_DEFECT` switches one on. In every other build [`planted`] is the constant `false` and
//! nothing of this is left. `cargo run -p esker-recovery --example defects` makes that build, runs
//! the tests with each defect in turn, and counts how many are noticed.

/// A mistake that could have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A commit is acknowledged although its sync was left out.
    AcknowledgeBeforeSync,
    /// The name of a new segment is not made durable.
    SkipSegmentDirectorySync,
    /// Every bad frame counts as a torn tail, whatever was promised.
    TruncateAtAnyBadFrame,
    /// The seal at the end of an idle log is not written.
    SkipSeal,
    /// A frame promises what no sync has secured yet.
    PromiseTooMuch,
    /// The number of a released segment is given to a new one.
    ReuseSegmentNumber,
    /// A segment is released although some of its commits are in no table yet.
    ReleaseTooEarly,
    /// The tag of a record in an open run is not looked at.
    SkipRecordTag,
    /// The digest of a frame's payload is not looked at.
    SkipFrameDigest,
    /// That a frame follows its predecessor is not looked at.
    SkipChain,
    /// A failed sync does not stop writes.
    GoOnAfterFailedSync,
    /// The digest of a block is not looked at.
    SkipBlockDigest,
    /// The root digest of a table is not compared with the manifest's.
    SkipTableRoot,
    /// The filter forgets the last key of a table.
    ForgetKeyInFilter,
    /// An edit counts before it is durable.
    InstallBeforeDurable,
    /// What an edit freed is deleted before a later frame promises that edit.
    DeleteBeforePromised,
    /// The rename of the root is not made durable.
    SkipRootDirectorySync,
    /// A root that was put back to an older one is accepted.
    AcceptStaleRoot,
    /// The last commit of the log is not replayed.
    SkipLastReplay,
    /// What a crash cut off is not set aside.
    SkipQuarantine,
    /// The tables of the manifest are not looked for.
    SkipTableListing,
    /// A tombstone goes although something older may lie below.
    DropTombstoneEarly,
    /// What a snapshot still sees is merged away.
    ForgetSnapshots,
    /// A range delete is not applied by compaction, but it goes.
    LoseRangeDelete,
    /// A sync commit is visible before it is durable.
    ShowBeforeDurable,
    /// A transaction does not look at what others wrote.
    SkipConflictCheck,
    /// A flush marks the commit after its last one as flushed.
    FlushMarksTooMuch,
    /// Two ranks of the lock order are swapped.
    SwapLockRanks,
}

impl Defect {
    /// All of them.
    pub const ALL: [Defect; 28] = [
        Defect::AcknowledgeBeforeSync,
        Defect::SkipSegmentDirectorySync,
        Defect::TruncateAtAnyBadFrame,
        Defect::SkipSeal,
        Defect::PromiseTooMuch,
        Defect::ReuseSegmentNumber,
        Defect::ReleaseTooEarly,
        Defect::SkipRecordTag,
        Defect::SkipFrameDigest,
        Defect::SkipChain,
        Defect::GoOnAfterFailedSync,
        Defect::SkipBlockDigest,
        Defect::SkipTableRoot,
        Defect::ForgetKeyInFilter,
        Defect::InstallBeforeDurable,
        Defect::DeleteBeforePromised,
        Defect::SkipRootDirectorySync,
        Defect::AcceptStaleRoot,
        Defect::SkipLastReplay,
        Defect::SkipQuarantine,
        Defect::SkipTableListing,
        Defect::DropTombstoneEarly,
        Defect::ForgetSnapshots,
        Defect::LoseRangeDelete,
        Defect::ShowBeforeDurable,
        Defect::SkipConflictCheck,
        Defect::FlushMarksTooMuch,
        Defect::SwapLockRanks,
    ];
}

/// Whether `defect` is switched on: never, unless this is a build to measure tests with.
#[cfg(not(esker_defects))]
#[inline(always)]
pub const fn planted(_defect: Defect) -> bool {
    false
}

/// Whether `defect` is switched on by the environment.
#[cfg(esker_defects)]
pub fn planted(defect: Defect) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Defect>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("ESKER_DEFECT").ok()?;
        Defect::ALL.into_iter().find(|defect| format!("{defect:?}") == name)
    });
    *chosen == Some(defect)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ALL` forgets none: the last one's place says how many there are.
    #[test]
    fn every_defect_is_listed_once() {
        for (place, defect) in Defect::ALL.into_iter().enumerate() {
            assert_eq!(defect as usize, place);
        }
        assert_eq!(Defect::SwapLockRanks as usize + 1, Defect::ALL.len());
    }
}
