//! What kind of story a seed tells.

use crate::story::action::OPERATOR;
use crate::story::dice::Dice;
use replication::protocol::SessionConfig;
use std::time::Duration;

/// Who can reach whom, and who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Three authors, all in reach.
    Mesh,
    /// The last node only reads.
    Reader,
    /// The first and the last can not reach each other; the author between them only responds.
    Responder,
    /// The first and the last can not reach each other; the node between them only reads.
    ReadingRelay,
}

/// Something that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Write,
    /// Many writes, or large ones.
    Burst,
    Weather,
    /// One node is cut off.
    Partition,
    OneWay,
    Mend,
    /// One node reads and sends at a crawl.
    Slow,
    ClockNear,
    ClockFar,
    ClockRight,
    Kill,
    PowerLoss,
    Stop,
    Start,
    BackUp,
    Restore,
    Wipe,
    Collect,
    TrimLog,
    Fence,
    Unfence,
    /// Operators say that a node only reads from now on.
    Untrack,
    /// Operators say that it writes again.
    Track,
    /// Operators say so at the node itself.
    Promote,
    /// A node is out, writes alone, and the others delete, agree and forget meanwhile.
    LiveOnWithout,
    Rest,
}

impl Action {
    /// After these writes may be late.
    const HARSH: [Action; 5] =
        [Action::Restore, Action::Wipe, Action::Fence, Action::Unfence, Action::LiveOnWithout];

    const ALL: [(Action, u32); 23] = [
        (Action::Write, 60),
        (Action::Burst, 4),
        (Action::Weather, 4),
        (Action::Partition, 4),
        (Action::OneWay, 3),
        (Action::Mend, 8),
        (Action::Slow, 2),
        (Action::ClockNear, 3),
        (Action::ClockFar, 1),
        (Action::ClockRight, 3),
        (Action::Kill, 3),
        (Action::PowerLoss, 3),
        (Action::Stop, 2),
        (Action::Start, 12),
        (Action::BackUp, 4),
        (Action::Restore, 3),
        (Action::Wipe, 1),
        (Action::Collect, 8),
        (Action::TrimLog, 3),
        (Action::Fence, 2),
        (Action::Unfence, 3),
        (Action::LiveOnWithout, 1),
        (Action::Rest, 3),
    ];

    /// Of stories in which roles change.
    const OF_ROLES: [(Action, u32); 4] = [
        (Action::Untrack, 8),
        (Action::Track, 6),
        (Action::Promote, 6),
        (Action::LiveOnWithout, 4),
    ];
}

/// How much may be on its way, and in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) window_bytes: u64,
    pub(crate) window_shipments: usize,
    pub(crate) shipment_len: usize,
    /// Whether some writes are longer than what a peer keeps in memory.
    pub(crate) has_long_writes: bool,
}

impl Limits {
    const USUAL: Limits = Limits {
        window_bytes: SessionConfig::WINDOW_BYTES,
        window_shipments: SessionConfig::WINDOW_SHIPMENTS,
        shipment_len: SessionConfig::SHIPMENT_LEN,
        has_long_writes: false,
    };
}

/// A story before it is told.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) steps: u64,
    /// Milliseconds between actions, at most.
    pub(crate) pause_ms: u64,
    pub(crate) keys: u64,
    /// Whether writers become readers, and readers writers.
    pub(crate) has_roles: bool,
    pub(crate) limits: Limits,
    /// How often two nodes compare all they have, if they do.
    pub(crate) audit_every: Option<Duration>,
    weights: Vec<(Action, u32)>,
}

impl Plan {
    pub(crate) fn of(dice: &mut Dice) -> Plan {
        let shapes = [Shape::Mesh, Shape::Mesh, Shape::Mesh, Shape::Reader, Shape::Responder];
        let shape = if dice.one_in(8) { Shape::ReadingRelay } else { *dice.pick(&shapes) };
        let mut weights = Action::ALL.to_vec();
        for (action, weight) in &mut weights {
            // Each story has its own mixture, and some lack some actions at all.
            *weight = match dice.below(4) {
                _ if !Plan::allows(shape, *action) => 0,
                0 if !matches!(action, Action::Write | Action::Start) => 0,
                1 => *weight * 2,
                _ => *weight,
            };
        }
        if dice.one_in(3) {
            let is_harsh = |action: &Action| Action::HARSH.contains(action);
            weights.iter_mut().filter(|(action, _)| is_harsh(action)).for_each(|(_, w)| *w = 0);
        }
        let steps = dice.between(30, 110);
        let pause_ms = *dice.pick(&[200, 1_000, 2_500]);
        Plan {
            shape,
            steps,
            pause_ms,
            keys: dice.between(2, 6),
            has_roles: false,
            limits: Limits::USUAL,
            audit_every: None,
            weights,
        }
    }

    /// Perhaps with audits. They have dice of their own, so nothing else of the story depends on them.
    pub(crate) fn with_audits(self, dice: &mut Dice) -> Plan {
        let every = Duration::from_secs(dice.between(5, 60));
        Plan { audit_every: dice.one_in(2).then_some(every), ..self }
    }

    /// Perhaps with roles that change, by dice of their own as well.
    pub(crate) fn with_roles(mut self, dice: &mut Dice) -> Plan {
        self.has_roles = dice.one_in(3);
        if self.has_roles {
            let weighed = |(action, weight)| (action, weight * dice.between(0, 2) as u32);
            let of_roles = Action::OF_ROLES.map(weighed).into_iter();
            self.weights.extend(of_roles.filter(|(it, _)| Plan::allows(self.shape, *it)));
        }
        self
    }

    /// Perhaps with windows that are soon full, and with long writes: dice of their own once more.
    pub(crate) fn with_limits(mut self, dice: &mut Dice) -> Plan {
        if dice.one_in(2) {
            self.limits = Limits {
                window_bytes: *dice.pick(&[2 << 10, 16 << 10, 64 << 10]),
                window_shipments: dice.between(2, 8) as usize,
                shipment_len: *dice.pick(&[200, 2_000, 16_000]),
                has_long_writes: dice.one_in(8),
            };
        }
        self
    }

    /// Whether operators may make `node` a reader. Who is below the floor can only be helped by an
    /// author that it reaches.
    pub(crate) fn may_untrack(&self, node: usize) -> bool {
        match self.shape {
            Shape::Mesh | Shape::Reader => node != OPERATOR,
            Shape::Responder => node == 2,
            Shape::ReadingRelay => node == 1,
        }
    }

    /// Who is below the floor can only be helped by an author that it reaches.
    fn allows(shape: Shape, action: Action) -> bool {
        use Action::{Fence, LiveOnWithout, Restore, Unfence, Wipe};
        match shape {
            Shape::Mesh | Shape::Responder => true,
            Shape::Reader => !matches!(action, Fence | Unfence),
            Shape::ReadingRelay => {
                !matches!(action, Fence | Unfence | LiveOnWithout | Restore | Wipe)
            }
        }
    }

    pub(crate) fn next(&self, dice: &mut Dice) -> Action {
        let weights = self.weights.iter().map(|(_, weight)| *weight);
        self.weights[dice.weighed(weights)].0
    }
}
