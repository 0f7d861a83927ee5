//! The floor: what every author has confirmed, so that tombstones below it may go.

use crate::confirm::Statements;
use crate::roster::Roster;
use crate::rules;
use base::{NodeId, Vector};

/// Per origin the minimum over all authors of what counts of their statements, and of what is
/// durable here. An author that has said nothing holds everything.
pub fn floor(roster: &Roster, statements: &Statements, own: NodeId, durable: &Vector) -> Vector {
    let others = roster.authors().filter(|author| *author != own);
    let counted: Vec<_> =
        others.map(|author| statements.counted(author, roster, durable)).collect();
    rules::floor(durable, counted.iter().map(Option::as_ref))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confirm::Way;
    use crate::roster::Life;
    use crate::store::Held;
    use base::{Incarnation, Origin, Stamp, Tick};

    fn origin(node: u8) -> Origin {
        Origin { node: NodeId([node; 16]), incarnation: Incarnation(1) }
    }

    fn vector(entries: &[(Origin, u64)]) -> Vector {
        entries.iter().map(|(of, tick)| (*of, Tick::from_raw(*tick).unwrap())).collect()
    }

    #[test]
    fn an_author_that_said_nothing_holds_the_floor() {
        let (a, b, c) = (origin(1), origin(2), origin(3));
        let mut roster = Roster::first([a.node, b.node, c.node]);
        for of in [a, b, c] {
            let life = Life { incarnation: of.incarnation, retired: Vec::new() };
            let (key, value) = (Life::key(of.node), life.encode());
            roster.read(&[Held { key, value, stamp: Stamp::default() }]);
        }
        let durable = vector(&[(a, 9), (b, 9)]);
        let mut statements = Statements::default();
        statements.note(b, Way::Own, &vector(&[(a, 5), (b, 9)]), &roster);
        statements.count(&durable);
        assert_eq!(floor(&roster, &statements, a.node, &durable), Vector::default());
        statements.note(c, Way::Own, &vector(&[(a, 7), (b, 2)]), &roster);
        statements.count(&durable);
        let all = floor(&roster, &statements, a.node, &durable);
        assert_eq!(all, vector(&[(a, 5), (b, 2)]));
        // A node alone holds itself.
        let alone = Roster::first([a.node]);
        assert_eq!(floor(&alone, &statements, a.node, &durable), durable);
    }
}
