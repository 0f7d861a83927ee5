//! A resolver for values that are JSON objects: the union of both.
//!
//! Members that only one side has are kept, as they are, byte for byte; of those that both have, objects
//! are merged in turn and of all else the winner's stays. Who removed a member while another node wrote
//! finds it again, if that one had it. The winner's members come first, in their order.

use engine::{Conflict, Resolution, ResolveError, Resolver};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// Objects within objects that are merged, at the most; below, the winner's stay.
const DEPTH_MAX: usize = 64;

/// See the module. What are not two objects, and a delete on either side, is the winner's.
///
/// ```
/// use engine::{Db, Options};
/// use replication::JsonMerge;
///
/// # fn open(dir: &std::path::Path) -> engine::Result<()> {
/// let db = Db::open(dir, Options::default())?;
/// db.set_resolver("documents", JsonMerge)?;
/// # Ok(()) }
/// let merged = JsonMerge::merge(br#"{"a":1,"b":{"x":1}}"#, br#"{"a":2,"b":{"y":2},"c":3}"#);
/// assert_eq!(merged.unwrap(), br#"{"a":1,"b":{"x":1,"y":2},"c":3}"#);
/// assert_eq!(JsonMerge::merge(br#"{"a":1}"#, br#"{"a":2}"#), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonMerge;

impl JsonMerge {
    /// The union of both; none if `loser` has nothing that `winner` has not, or one is no object.
    pub fn merge(winner: &[u8], loser: &[u8]) -> Option<Vec<u8>> {
        let [winner, loser] = [winner, loser].map(|text| std::str::from_utf8(text).ok());
        merged(winner?, loser?, 0).map(String::into_bytes)
    }
}

impl Resolver for JsonMerge {
    fn resolve(&self, conflict: &Conflict<'_>) -> Result<Resolution, ResolveError> {
        let both = conflict.winner.zip(conflict.loser);
        let merged = both.and_then(|(winner, loser)| JsonMerge::merge(winner, loser));
        Ok(merged.map_or(Resolution::KeepWinner, Resolution::Put))
    }
}

/// See [`JsonMerge::merge`].
fn merged(winner: &str, loser: &str, depth: usize) -> Option<String> {
    if depth >= DEPTH_MAX {
        return None;
    }
    let (mut all, loser) = (members(winner)?, members(loser)?);
    let places: HashMap<String, usize> =
        all.iter().enumerate().map(|(place, member)| (member.name.clone(), place)).collect();
    let mut has_news = false;
    for member in loser {
        let known = places.get(&member.name).and_then(|place| all.get_mut(*place));
        let Some(known) = known else {
            has_news = true;
            all.push(member);
            continue;
        };
        if let Some(both) = merged(&known.text, &member.text, depth + 1) {
            has_news = true;
            known.text = Cow::Owned(both);
        }
    }
    has_news.then(|| object(&all))
}

/// A member of an object.
struct Member<'a> {
    name: String,
    /// Its value as it is written.
    text: Cow<'a, str>,
}

/// The members of an object, the last of each name; none if `text` is no object.
fn members(text: &str) -> Option<Vec<Member<'_>>> {
    // Whatever is no object is cheap to tell.
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    serde_json::from_str::<Members<'_>>(text).ok().map(|members| members.0)
}

fn object(members: &[Member<'_>]) -> String {
    let mut out = String::from("{");
    for Member { name, text } in members {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(&**name).to_string());
        out.push(':');
        out.push_str(text);
    }
    out.push('}');
    out
}

struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let (mut all, mut places) = (Vec::<Member<'de>>::new(), HashMap::new());
        while let Some(name) = map.next_key::<String>()? {
            let text = Cow::Borrowed(map.next_value::<&'de RawValue>()?.get());
            match places.get(&name).and_then(|place: &usize| all.get_mut(*place)) {
                Some(known) => known.text = text,
                None => {
                    places.insert(name.clone(), all.len());
                    all.push(Member { name, text });
                }
            }
        }
        Ok(Members(all))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn merge(winner: &str, loser: &str) -> Option<String> {
        let merged = JsonMerge::merge(winner.as_bytes(), loser.as_bytes());
        merged.map(|merged| String::from_utf8(merged).unwrap())
    }

    #[test]
    fn members_of_both_are_kept_and_on_a_clash_the_winners() {
        let merged = merge(r#"{"a":1,"o":{"x":[1]}}"#, r#"{"o":{"x":[2],"y":{}},"b":null}"#);
        assert_eq!(merged.unwrap(), r#"{"a":1,"o":{"x":[1],"y":{}},"b":null}"#);
        assert_eq!(merge(r#"{"a":{"b":1}}"#, r#"{"a":7}"#), None);
        assert_eq!(merge(r#"{"a":7}"#, r#"{"a":{"b":1}}"#), None);
    }

    #[test]
    fn what_is_not_touched_stays_byte_for_byte() {
        let winner = r#" {"n":12345678901234567890.10, "e":1E400,"u":"\u00e9\"" } "#;
        let merged = merge(winner, r#"{"é\n":0.10000000000000000000001}"#).unwrap();
        let expected = r#"{"n":12345678901234567890.10,"e":1E400,"u":"\u00e9\"","é\n":0.10000000000000000000001}"#;
        assert_eq!(merged, expected);
    }

    #[test]
    fn what_are_not_two_objects_is_the_winners() {
        for other in ["", "7", "[1]", "null", "{", r#"{"a":}"#, r#"{"a":1} x"#, "\"{}\""] {
            assert_eq!(merge(other, r#"{"b":1}"#), None, "{other}");
            assert_eq!(merge(r#"{"b":1}"#, other), None, "{other}");
        }
        assert_eq!(JsonMerge::merge(b"{\"a\":1}", b"{\"\xff\":1}"), None);
    }

    #[test]
    fn what_lies_deep_is_the_winners_and_costs_no_stack() {
        let nested = |depth: usize, inner: &str| {
            format!("{}{inner}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
        };
        let (x, y) = (r#"{"x":1}"#, r#"{"y":1}"#);
        assert!(merge(&nested(63, x), &nested(63, y)).unwrap().contains('y'));
        assert_eq!(merge(&nested(64, x), &nested(64, y)), None);
        let _ = merge(&nested(200_000, x), &nested(200_000, y));
        let _ = merge(&"[".repeat(200_000), &"{\"a\":".repeat(200_000));
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_counts() {
        let merged = merge(r#"{"a":1,"a":2}"#, r#"{"b":1,"b":2,"a":3}"#);
        assert_eq!(merged.unwrap(), r#"{"a":2,"b":2}"#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a-c\"\\\\\n]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// The same on whole documents.
    fn union(winner: &Value, loser: &Value) -> Value {
        let (Value::Object(winner), Value::Object(loser)) = (winner, loser) else {
            return winner.clone();
        };
        let mut all = winner.clone();
        for (name, value) in loser {
            let known = winner.get(name).map_or(value.clone(), |known| union(known, value));
            all.insert(name.clone(), known);
        }
        Value::Object(all)
    }

    proptest! {
        #[test]
        fn a_merge_is_the_union_and_has_nothing_to_gain_from_either(
            winner in any_json(), loser in any_json()
        ) {
            let (a, b) = (winner.to_string(), loser.to_string());
            let found = merge(&a, &b);
            let expected = union(&winner, &loser);
            prop_assert_eq!(found.is_some(), expected != winner);
            let found = found.unwrap_or(a);
            prop_assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), expected);
            prop_assert_eq!(merge(&found, &b), None);
            prop_assert_eq!(merge(&found, &winner.to_string()), None);
        }

        #[test]
        fn any_bytes_are_taken(winner: Vec<u8>, loser: Vec<u8>) {
            let _ = JsonMerge::merge(&winner, &loser);
        }
    }
}
