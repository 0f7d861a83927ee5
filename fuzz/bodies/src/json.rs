//! Two documents that were written at once, and what becomes of them.

use crate::input::Input;
use replication::JsonMerge;

/// Objects within objects that a made-up document has at the most.
const DEPTH_MAX: usize = 6;

/// Of any two texts there is a merge or none, it has nothing to gain from either and is no longer
/// than both; of two documents it is their union.
pub fn json_merge(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 2 {
        0 => {
            let winner = input.bytes(2000);
            merged(winner, input.rest());
        }
        _ => {
            let (winner, loser) = (object(&mut input, 0), object(&mut input, 0));
            let found = merged(text(&winner).as_bytes(), text(&loser).as_bytes());
            let both = text(&union(&winner, &loser));
            let expected = Some(both.into_bytes()).filter(|both| *both != text(&winner).as_bytes());
            assert_eq!(found, expected);
        }
    }
}

fn merged(winner: &[u8], loser: &[u8]) -> Option<Vec<u8>> {
    let both = JsonMerge::merge(winner, loser)?;
    assert!(both.len() <= winner.len() + loser.len());
    assert_eq!(JsonMerge::merge(&both, loser), None);
    assert_eq!(JsonMerge::merge(&both, winner), None);
    Some(both)
}

/// A document.
#[derive(Clone, Debug)]
enum Json {
    Leaf(u8),
    Object(Vec<(u8, Json)>),
}

/// Members with different names.
fn object(input: &mut Input<'_>, depth: usize) -> Json {
    let mut members: Vec<(u8, Json)> = Vec::new();
    for _ in 0..input.below(5) {
        let name = b'a' + input.byte() % 6;
        let is_object = depth < DEPTH_MAX && input.byte().is_multiple_of(2);
        let value = if is_object { object(input, depth + 1) } else { Json::Leaf(input.byte()) };
        if members.iter().all(|(known, _)| *known != name) {
            members.push((name, value));
        }
    }
    Json::Object(members)
}

fn text(json: &Json) -> String {
    match json {
        Json::Leaf(number) => number.to_string(),
        Json::Object(members) => {
            let member =
                |(name, value): &(u8, Json)| format!("\"{}\":{}", char::from(*name), text(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
        }
    }
}

/// All members of both, the winner's first; where both are no objects, the winner's value.
fn union(winner: &Json, loser: &Json) -> Json {
    let (Json::Object(winners), Json::Object(losers)) = (winner, loser) else {
        return winner.clone();
    };
    let mut all = winners.clone();
    for (name, theirs) in losers {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, ours)) => *ours = union(ours, theirs),
            None => all.push((*name, theirs.clone())),
        }
    }
    Json::Object(all)
}
