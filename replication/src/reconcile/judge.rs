//! What it means that one side holds an element and the other holds nothing as new.

use base::{Stamp, Tick, Vector};

/// What is known of the side that lacks an element.
#[derive(Clone, Copy, Debug)]
pub struct Absence<'a> {
    /// What it has received.
    pub vector: &'a Vector,
    /// The highest tick of any tombstone it ever dropped.
    pub dropped: Tick,
    /// Whether its absences count at all.
    pub is_whole: bool,
}

/// What to do about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is on its way, or could be: nothing.
    Lag,
    /// The side that lacks it has lost it: it takes it again. An incident.
    Lost,
    /// The side that lacks it may have deleted it and forgotten that: the other side moves it to the
    /// quarantine. An incident.
    Deleted,
}

/// What it means that `absent` holds nothing at or above an element that was brought by `carrier`.
///
/// Who has not received the carrier is behind. Who has received it held the element, or something
/// newer that was deleted and forgotten since: which is impossible above the highest tombstone
/// ever dropped there.
pub fn judge(carrier: Stamp, absent: &Absence<'_>) -> Verdict {
    if !absent.vector.covers_stamp(carrier) {
        Verdict::Lag
    } else if !absent.is_whole || carrier.tick > absent.dropped {
        Verdict::Lost
    } else {
        Verdict::Deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Incarnation, NodeId, Origin};

    #[test]
    fn only_what_a_forgotten_tombstone_could_explain_counts_as_deleted() {
        let origin = Origin { node: NodeId([1; 16]), incarnation: Incarnation(1) };
        let stamp = |ms| Stamp { tick: Tick::from_ms(ms), origin };
        let vector: Vector = [(origin, Tick::from_ms(50))].into_iter().collect();
        let absent =
            |dropped| Absence { vector: &vector, dropped: Tick::from_ms(dropped), is_whole: true };
        assert_eq!(judge(stamp(51), &absent(60)), Verdict::Lag);
        assert_eq!(judge(stamp(40), &absent(39)), Verdict::Lost);
        assert_eq!(judge(stamp(40), &absent(40)), Verdict::Deleted);
        let halved = Absence { is_whole: false, ..absent(40) };
        assert_eq!(judge(stamp(40), &halved), Verdict::Lost);
    }
}
