//! Writes collected to be committed as one.

use crate::keyspace::{Keyspace, KeyspaceState};
use crate::memtable::Memtable;
use crate::stats::Tally;
use base::batch::Ops;
use base::limits::{check_batch, check_key, check_value};
use base::{Error, Op, OpKind, Result, ScopeId, SpaceId};
use std::sync::Arc;

/// Writes to any number of keyspaces that are committed as one: all of them or none.
///
/// Of several writes to one key the last counts. Keys, values and the whole are checked when
/// the batch is committed, with an error that names limit and value; nothing of a refused batch is
/// stored.
///
/// ```
/// # fn main() -> esker::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let db = esker::Db::open(dir.path().join("data"), esker::Options::default())?;
/// let users = db.keyspace("users", esker::KeyspaceOptions::default())?;
/// let mut batch = esker::Batch::new();
/// batch.put(&users, b"ada", b"1815");
/// batch.delete(&users, b"bob");
/// db.write(batch)?;
/// assert_eq!(users.get(b"ada")?.unwrap(), b"1815");
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Batch {
    /// Encoded ops, apart for each scope; almost always one.
    scopes: Vec<ScopeOps>,
    /// The keyspaces written to.
    keyspaces: Vec<Arc<KeyspaceState>>,
    /// Bytes to reserve in the memtable.
    reservation: usize,
    /// Bytes of keys and values.
    byte_len: usize,
    /// Whether any of it is more than a delete.
    stores_values: bool,
    /// How many there are of each kind.
    tally: Tally,
    /// The first limit that a write broke.
    refused: Option<Error>,
}

/// The ops of one scope.
#[derive(Debug)]
struct ScopeOps {
    scope: ScopeId,
    count: u64,
    encoded: Vec<u8>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets the value of `key`.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        if let Err(error) = check_value(value) {
            self.refused.get_or_insert(error);
            return;
        }
        self.push(keyspace.state(), key.as_ref(), OpKind::Put(value));
    }

    /// Sets the value of `key` until `expires_at_ms`, in milliseconds since the Unix epoch.
    pub fn put_until(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expires_at_ms: u64,
    ) {
        let value = value.as_ref();
        if let Err(error) = check_value(value) {
            self.refused.get_or_insert(error);
            return;
        }
        self.push(keyspace.state(), key.as_ref(), OpKind::PutExpiring { expires_at_ms, value });
    }

    /// Deletes `key`, whether it exists or not.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) {
        self.push(keyspace.state(), key.as_ref(), OpKind::Delete);
    }

    /// Deletes all keys from `start` up to, not including, `end`; an empty `end` means to the last
    /// key. Earlier writes of this batch to keys in the range are removed, later ones stay.
    pub fn delete_range(
        &mut self,
        keyspace: &Keyspace,
        start: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
    ) {
        let (start, end) = (start.as_ref(), end.as_ref());
        if !end.is_empty() && start >= end {
            return;
        }
        let limit = base::limits::KEY_LEN_MAX;
        for bound in [start, end] {
            if bound.len() > limit {
                let refused = Error::too_large("key", limit as u64, bound.len() as u64);
                self.refused.get_or_insert(refused);
                return;
            }
        }
        self.remove_covered(keyspace.state().space, start, end);
        self.append(
            keyspace.state(),
            Op {
                keyspace: keyspace.state().space.keyspace(),
                key: start,
                kind: OpKind::RangeDelete { end },
            },
        );
    }

    /// Deletes all keys that start with `prefix`; an empty prefix means all keys.
    pub fn delete_prefix(&mut self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) {
        let prefix = prefix.as_ref();
        self.delete_range(keyspace, prefix, crate::scan::prefix_end(prefix));
    }

    /// Deletes all that the keyspace of `state` holds.
    pub(crate) fn delete_all(&mut self, state: &Arc<KeyspaceState>) {
        let (keyspace, kind) = (state.space.keyspace(), OpKind::RangeDelete { end: &[] });
        self.append(state, Op { keyspace, key: &[], kind });
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.scopes.iter().map(|ops| ops.count as usize).sum()
    }

    /// Whether it holds no write.
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    pub(crate) fn push(&mut self, keyspace: &Arc<KeyspaceState>, key: &[u8], kind: OpKind<'_>) {
        if let Err(error) = check_key(key) {
            self.refused.get_or_insert(error);
            return;
        }
        self.append(keyspace, Op { keyspace: keyspace.space.keyspace(), key, kind });
    }

    fn append(&mut self, keyspace: &Arc<KeyspaceState>, op: Op<'_>) {
        if !self.keyspaces.iter().any(|known| Arc::ptr_eq(known, keyspace)) {
            self.keyspaces.push(keyspace.clone());
        }
        self.reservation += Memtable::reservation(&op);
        self.byte_len += op.key.len() + op.value_len();
        self.stores_values |= op.stores_value();
        self.tally.add(&op.kind);
        let scope = keyspace.space.scope();
        let index = match self.scopes.iter().position(|ops| ops.scope == scope) {
            Some(index) => index,
            None => {
                self.scopes.push(ScopeOps { scope, count: 0, encoded: Vec::new() });
                self.scopes.len() - 1
            }
        };
        if let Some(ops) = self.scopes.get_mut(index) {
            ops.count += 1;
            op.encode(&mut ops.encoded);
        }
    }

    fn remove_covered(&mut self, space: SpaceId, start: &[u8], end: &[u8]) {
        let is_covered = |op: &Op<'_>| {
            op.keyspace == space.keyspace()
                && !matches!(op.kind, OpKind::RangeDelete { .. })
                && op.key >= start
                && (end.is_empty() || op.key < end)
        };
        for ops in self.scopes.iter_mut().filter(|ops| ops.scope == space.scope()) {
            if !Ops::encoded(&ops.encoded).any(|op| is_covered(&op)) {
                continue;
            }
            let mut kept = Vec::with_capacity(ops.encoded.len());
            ops.count = 0;
            for op in Ops::encoded(&ops.encoded).filter(|op| !is_covered(op)) {
                op.encode(&mut kept);
                ops.count += 1;
            }
            ops.encoded = kept;
        }
    }

    /// The first broken limit, if any; and whether the whole is too large, or too much.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        check_batch(self.len() as u64, self.scopes.iter().map(|ops| ops.encoded.len()).sum())
    }

    /// Bytes of keys and values.
    pub(crate) fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// Whether any of it is more than a delete.
    pub(crate) fn stores_values(&self) -> bool {
        self.stores_values
    }

    /// How many writes there are of each kind, those that a later range delete took back as well.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn keyspaces(&self) -> &[Arc<KeyspaceState>] {
        &self.keyspaces
    }

    pub(crate) fn reservation(&self) -> usize {
        self.reservation + self.keyspaces.len() * Memtable::KEYSPACE_RESERVATION
    }

    /// Scope, op count and encoded ops of each scope.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = (ScopeId, u64, &[u8])> {
        self.scopes.iter().map(|ops| (ops.scope, ops.count, &*ops.encoded))
    }

    /// All ops with their keyspaces.
    pub(crate) fn ops(&self) -> impl Iterator<Item = (SpaceId, Op<'_>)> {
        self.scopes.iter().flat_map(|ops| {
            Ops::encoded(&ops.encoded).map(|op| (SpaceId::new(ops.scope, op.keyspace), op))
        })
    }
}
