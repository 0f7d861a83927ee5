//! Torn or corrupt? The one rule, as a pure function.
//!
//! ```text
//! where reading stopped        a promise beyond it    verdict
//! anything                     yes                    corrupt: bytes that were secured are not there
//! a clean end, nothing later   no                     clean
//! a clean end, a later segment no                     torn: the rest of the log never arrived
//! a bad byte                   no                     torn
//! ```
//!
//! A crash may leave any bytes behind the last sync: missing, partial, out of order, garbage. It
//! can not touch what a sync has secured. So a promise is evidence, and nothing else is: not that
//! later frames verify, nor that a later segment names this one.

use base::{Corruption, Defect, Position, planted};

/// What is known about the place where reading the log had to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Behind the last accepted byte.
    pub at: Position,
    /// What is wrong there; `None` where the log simply ends.
    pub found: Option<Corruption>,
    /// What comes later in the log.
    pub later: Later,
    /// The highest promise known from anywhere: frames behind, later segments, the manifest, the
    /// mark of a clean close.
    pub promise: Position,
}

/// Whether the log goes on in another segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// It ends in this one.
    Nothing,
    /// A later segment says that this one is longer.
    Segment,
}

/// What to make of the end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ends where it was left.
    Clean,
    /// A crash cut it: what follows was never secured.
    Torn {
        /// Where the accepted part ends.
        at: Position,
    },
    /// Bytes that were secured are not there any more.
    Corrupt {
        /// The first of them.
        at: Position,
        /// What is wrong there.
        found: Corruption,
    },
}

/// Judges the end of a log.
pub fn judge(evidence: &Evidence) -> Verdict {
    let Evidence { at, found, later, promise } = *evidence;
    if promise > at && !planted(Defect::TruncateAtAnyBadFrame) {
        return Verdict::Corrupt { at, found: found.unwrap_or(Corruption::MissingPromised) };
    }
    match (found, later) {
        (None, Later::Nothing) => Verdict::Clean,
        (Some(_), _) | (None, Later::Segment) => Verdict::Torn { at },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: [Option<Corruption>; 4] = [
        None,
        Some(Corruption::Truncated),
        Some(Corruption::DigestMismatch),
        Some(Corruption::BrokenChain),
    ];

    fn positions() -> impl Iterator<Item = Position> + Clone {
        (0..4).flat_map(|segment| (0..4).map(move |offset| Position { segment, offset }))
    }

    /// Every combination of a small world: corrupt exactly if a promise reaches beyond the end,
    /// clean exactly if nothing is wrong, nothing follows and nothing is promised.
    #[test]
    fn a_promise_beyond_the_end_is_the_only_evidence() {
        let mut seen = 0;
        for at in positions() {
            for promise in positions() {
                for found in FOUND {
                    for later in [Later::Nothing, Later::Segment] {
                        let verdict = judge(&Evidence { at, found, later, promise });
                        let promised = (promise.segment, promise.offset) > (at.segment, at.offset);
                        let expected = match (promised, found, later) {
                            (true, None, _) => {
                                Verdict::Corrupt { at, found: Corruption::MissingPromised }
                            }
                            (true, Some(found), _) => Verdict::Corrupt { at, found },
                            (false, None, Later::Nothing) => Verdict::Clean,
                            (false, _, _) => Verdict::Torn { at },
                        };
                        assert_eq!(verdict, expected);
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 16 * 16 * 4 * 2);
    }

    #[test]
    fn a_promise_up_to_the_bad_byte_does_not_cover_it() {
        let at = Position { segment: 2, offset: 100 };
        let found = Some(Corruption::DigestMismatch);
        let evidence = Evidence { at, found, later: Later::Nothing, promise: at };
        assert_eq!(judge(&evidence), Verdict::Torn { at });
        let promise = Position { segment: 2, offset: 101 };
        assert!(matches!(judge(&Evidence { promise, ..evidence }), Verdict::Corrupt { .. }));
    }
}
