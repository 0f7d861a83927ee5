//! The rules, each of which can be left out to see what it is good for.

use crate::world::{Node, Slot};
use base::{Stamp, Vector};
use replication::rules::{self, Rank, Statement, Version, VersionKind};

/// A rule of replication, said as what holds when it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// An author without a counted statement holds the whole floor.
    FloorOfEveryAuthor,
    /// A tombstone goes when the floor covers it, not by its age.
    DropBelowFloor,
    /// A jump of the vector raises the clock to every tick that it covers.
    JumpRaisesClock,
    /// A statement counts once what it covers is covered here.
    CausalStatements,
    /// That means every component, not only the speaker's own.
    EveryComponent,
    /// A statement stops counting when a later life of the speaker is known.
    StatementsOfThisLife,
    /// A statement counts only if it covers the record that made the speaker an author.
    StatementsOfMembers,
    /// A receiver below the donor's floor gets no delta.
    DeltaAboveFloor,
    /// A delta becomes visible as a whole, with its jump of the vector.
    DeltaIsStaged,
    /// A staged record is skipped if the vector of the moment covers it.
    DeltaDeduped,
    /// An erase is selected and deduped by its carrier.
    EraseByCarrier,
    /// In a rejoin, stamps decide what the other side let go, not whether it holds something.
    AbsenceByStamp,
    /// An erase stays as a marker that shadows its victim and older versions.
    EraseShadows,
    /// Who may not author takes nothing that brings a late put, and rejoins.
    ObserverRefuses,
    /// A rejoiner does nothing else until the install is durable.
    RejoinerClosed,
    /// A rejoiner first sends what the other lacks of all origins, not only of its own.
    PushOfAllOrigins,
    /// If each is below the other's floor, each lets go what the other dropped, and adopts the
    /// floor and the highest dropped stamp.
    RejoinBothWays,
    /// In a rejoin both ways, the donor asks of its own puts too whether they are late for the
    /// other.
    DonorsLatePuts,
    /// The newest roster record about a peer that either side has decides whether it is fenced.
    NewestRecordFences,
    /// A rejoiner that was readmitted fetches from a donor that has the record of it.
    DonorKnowsMember,
    /// The donor commits the roster record of a joiner before it takes the snapshot.
    RosterFirst,
    /// A restored author waits for a live one and adopts its clock.
    RestoredWaits,
}

/// Which rules are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    left_out: Option<Rule>,
}

impl Rules {
    /// All of them.
    pub(crate) fn all() -> Rules {
        Rules::default()
    }

    /// All but one.
    pub(crate) fn without(rule: Rule) -> Rules {
        Rules { left_out: Some(rule) }
    }

    /// Whether `rule` is kept.
    pub(crate) fn keep(&self, rule: Rule) -> bool {
        self.left_out != Some(rule)
    }

    /// [`rules::is_news`].
    pub(crate) fn is_news(&self, version: &Version, vector: &Vector) -> bool {
        if self.keep(Rule::EraseByCarrier) {
            rules::is_news(version, vector)
        } else {
            !vector.covers_stamp(version.stamp)
        }
    }

    /// [`rules::is_counted`].
    pub(crate) fn is_counted(&self, statement: &Statement, since: Stamp, own: &Vector) -> bool {
        let Statement { origin, vector } = statement;
        match self.left_out {
            Some(Rule::CausalStatements) => true,
            Some(Rule::EveryComponent) => own.covers(*origin, vector.get(*origin)),
            Some(Rule::StatementsOfThisLife) => {
                own.covers_all(vector) && vector.covers_stamp(since)
            }
            Some(Rule::StatementsOfMembers) => rules::is_counted(statement, Stamp::default(), own),
            _ => rules::is_counted(statement, since, own),
        }
    }

    /// [`rules::may_drop`].
    pub(crate) fn may_drop(&self, deletion: &Version, floor: &Vector) -> bool {
        if self.keep(Rule::DropBelowFloor) {
            rules::may_drop(deletion, floor)
        } else {
            deletion.is_deletion()
        }
    }

    /// [`rules::may_take_delta`].
    pub(crate) fn may_take_delta(&self, receiver: &Vector, floor: &Vector) -> bool {
        !self.keep(Rule::DeltaAboveFloor) || rules::may_take_delta(receiver, floor)
    }

    /// [`rules::is_let_go`], asked for what is in `slot`.
    pub(crate) fn is_let_go(&self, mine: &Version, slot: Slot, other: &Node) -> bool {
        let others = other.scope.rank_at(slot);
        if self.keep(Rule::AbsenceByStamp) {
            rules::is_let_go(mine, &other.scope.vector, others)
        } else {
            !rules::is_news(mine, &other.scope.vector) && others.is_none()
        }
    }

    /// The erase as an exact removal, which is what it is not.
    pub(crate) fn removes_exactly(&self, version: &Version) -> bool {
        !self.keep(Rule::EraseShadows) && version.kind == VersionKind::Erase
    }
}

/// The greater of two ranks that may be missing.
pub(crate) fn greater(a: Option<Rank>, b: Option<Rank>) -> Option<Rank> {
    a.max(b)
}
