//! What a caller was told: the states that may be found after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What keyspaces hold, read back: by name, keys and values.
pub(crate) type Found = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A name and how often it was created.
pub(crate) type Slot = (&'static str, usize);

/// A value, and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Arc<[u8]>,
    pub(crate) expires_ms: u64,
}

pub(crate) type Content = BTreeMap<Vec<u8>, Entry>;

/// What all keyspaces hold; one that is not named is empty.
pub(crate) type State = BTreeMap<Slot, Arc<Content>>;

/// A checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Copied {
    pub(crate) path: String,
    pub(crate) state: Arc<State>,
    pub(crate) live: BTreeMap<&'static str, usize>,
    pub(crate) is_acknowledged: bool,
}

/// What was issued and acknowledged up to some moment of a workload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// The state after each write that was issued; the first is before any.
    pub(crate) states: Vec<Arc<State>>,
    /// How many of them were acknowledged.
    pub(crate) acknowledged: usize,
    /// How many of them must survive a power failure.
    pub(crate) durable: usize,
    /// Names that are live, with their incarnations.
    pub(crate) live: BTreeMap<&'static str, usize>,
    pub(crate) created: BTreeMap<&'static str, usize>,
    /// A creation or a drop that was issued and not acknowledged.
    pub(crate) in_doubt: Option<&'static str>,
    pub(crate) now_ms: u64,
    pub(crate) copies: Vec<Copied>,
}

impl Told {
    pub(crate) fn new(now_ms: u64) -> Told {
        Told { states: vec![Arc::default()], now_ms, ..Told::default() }
    }

    pub(crate) fn last(&self) -> State {
        self.states.last().map(|state| State::clone(state)).unwrap_or_default()
    }

    pub(crate) fn slot(&self, name: &'static str) -> Slot {
        (name, self.live[name])
    }

    /// A state that follows the last one; `change` makes it.
    pub(crate) fn issue(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.last();
        change(&mut state);
        self.states.push(Arc::new(state));
    }

    /// Everything issued so far was acknowledged.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged = self.states.len() - 1;
    }

    /// Everything issued so far was acknowledged and is durable.
    pub(crate) fn secure(&mut self) {
        self.acknowledge();
        self.durable = self.acknowledged;
    }

    /// The number of a state from `first` on that `found` is, the last if there are several.
    pub(crate) fn recognize(&self, found: &Found, first: usize) -> Result<usize, String> {
        let live = self.live.keys().filter(|name| self.in_doubt != Some(**name));
        let mut lost = live.filter(|name| !found.contains_key(**name));
        if let Some(name) = lost.next() {
            return Err(format!("keyspace {name} is lost"));
        }
        let fits = |state: &Arc<State>| self.fits(state, found);
        let fitting = self.states.iter().rposition(fits);
        match fitting {
            Some(number) if number >= first => Ok(number),
            number => Err(format!(
                "found the state after {number:?} writes of {}, but {first} must be there; last \
                 expected {}, found {}",
                self.states.len() - 1,
                self.outline(self.states.last()),
                outline(found),
            )),
        }
    }

    fn fits(&self, state: &State, found: &Found) -> bool {
        found.iter().all(|(name, content)| match self.live.get_key_value(&**name) {
            Some((name, incarnation)) => {
                is_same(state.get(&(*name, *incarnation)), content, self.now_ms)
            }
            // Created, but nobody was told so.
            None => self.in_doubt == Some(&**name) && content.is_empty(),
        })
    }

    fn outline(&self, state: Option<&Arc<State>>) -> String {
        let Some(state) = state else { return String::new() };
        let live = self.live.iter().map(|(name, incarnation)| {
            let content = state.get(&(*name, *incarnation)).map(|content| content.len());
            format!("{name}: {}", content.unwrap_or(0))
        });
        live.collect::<Vec<_>>().join(", ")
    }
}

/// The keyspaces of `found` with the number of their entries.
pub(crate) fn outline(found: &Found) -> String {
    let each = found.iter().map(|(name, content)| format!("{name}: {}", content.len()));
    each.collect::<Vec<_>>().join(", ")
}

/// Whether `found` is what of `content` has not expired.
pub(crate) fn is_same(
    content: Option<&Arc<Content>>,
    found: &BTreeMap<Vec<u8>, Vec<u8>>,
    now_ms: u64,
) -> bool {
    let entries = content.into_iter().flat_map(|content| content.iter());
    let live = entries.filter(|(_, entry)| entry.expires_ms > now_ms);
    live.map(|(key, entry)| (&key[..], &entry.value[..]))
        .eq(found.iter().map(|(key, value)| (&key[..], &value[..])))
}
