//! How much happened.

use replication::replica::Totals;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// Of one story, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) stories: u64,
    pub(crate) time: Duration,
    pub(crate) packets: u64,
    pub(crate) packets_lost: u64,
    pub(crate) writes: u64,
    pub(crate) refused: u64,
    pub(crate) crashes: u64,
    pub(crate) power_losses: u64,
    pub(crate) restores: u64,
    pub(crate) wipes: u64,
    pub(crate) fences: u64,
    /// Writers that were made readers, and readers that were made writers: by others, or by themselves.
    pub(crate) untracked: u64,
    pub(crate) tracked: u64,
    pub(crate) promoted: u64,
    pub(crate) clock_jumps: u64,
    pub(crate) late: u64,
    /// Writes whose only disk was lost.
    pub(crate) lost: u64,
    /// Stories in which a tombstone was dropped.
    pub(crate) dropped: u64,
    /// Reports of audits that were looked at.
    pub(crate) audits: u64,
    /// How often a node caught up otherwise than by the log: by a delta, by a rejoin, by tables.
    pub(crate) deltas: u64,
    pub(crate) rejoins: u64,
    pub(crate) bootstraps: u64,
    /// The longest time until all were equal.
    pub(crate) healing: Duration,
}

impl Counts {
    /// Adds what a replica did from its start to its end.
    pub(crate) fn note(&mut self, of: Totals) {
        self.deltas += of.deltas;
        self.rejoins += of.rejoins;
        self.bootstraps += of.bootstraps;
    }

    /// How often others may have gone on without a node's writes.
    pub(crate) fn leavings(&self) -> u64 {
        self.restores + self.wipes + self.fences + self.untracked
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.stories += more.stories;
        self.time += more.time;
        self.packets += more.packets;
        self.packets_lost += more.packets_lost;
        self.writes += more.writes;
        self.refused += more.refused;
        self.crashes += more.crashes;
        self.power_losses += more.power_losses;
        self.restores += more.restores;
        self.wipes += more.wipes;
        self.fences += more.fences;
        self.untracked += more.untracked;
        self.tracked += more.tracked;
        self.promoted += more.promoted;
        self.clock_jumps += more.clock_jumps;
        self.late += more.late;
        self.lost += more.lost;
        self.dropped += more.dropped;
        self.audits += more.audits;
        self.deltas += more.deltas;
        self.rejoins += more.rejoins;
        self.bootstraps += more.bootstraps;
        self.healing = self.healing.max(more.healing);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seeds, {} simulated seconds", self.stories, self.time.as_secs())?;
        writeln!(f, "{} packets, {} of them lost or cut", self.packets, self.packets_lost)?;
        writeln!(f, "{} writes, {} refused", self.writes, self.refused)?;
        writeln!(f, "{} crashes, {} with power", self.crashes, self.power_losses)?;
        writeln!(f, "{} restores, {} new disks", self.restores, self.wipes)?;
        writeln!(f, "{} nodes shut out, {} clocks set wrong", self.fences, self.clock_jumps)?;
        writeln!(f, "{} writers made readers", self.untracked)?;
        writeln!(f, "{} readers tracked, {} promoted", self.tracked, self.promoted)?;
        writeln!(f, "{} late writes, {} writes lost with their only disk", self.late, self.lost)?;
        writeln!(f, "{} seeds in which tombstones were dropped", self.dropped)?;
        writeln!(f, "{} reports of audits", self.audits)?;
        let (deltas, rejoins, bootstraps) = (self.deltas, self.rejoins, self.bootstraps);
        writeln!(f, "caught up by {deltas} deltas, {rejoins} rejoins, {bootstraps} times tables")?;
        write!(f, "{} simulated seconds until all were equal, at most", self.healing.as_secs())
    }
}
