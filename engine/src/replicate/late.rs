//! Puts that come after their deletion may have been forgotten.
//!
//! Nobody can tell whether such a put was deleted before, so all nodes must treat it alike: whoever finds
//! it erases it by its stamp, in a commit of its own, and keeps a copy in the keyspace `esker.quarantine`.
//! Both are replicated as all writes are. A copy is two entries:
//!
//! ```text
//! key
//!   24    origin          node, incarnation: the author of the put
//!    8    tick            big-endian
//!   16    what            first bytes of the Blake3 of the keyspace's name, a zero byte, and the key
//!    1    part            0 or 1
//! value of part 0
//!    1    version         1
//!    v+*  keyspace        its name
//!    v+*  key
//!    8    expires at      milliseconds since the Unix epoch; 0 = never
//! value of part 1
//!    *    value           of the put
//! ```

use super::incoming::Incoming;
use crate::memtable::Memtable;
use base::codec::put_bytes;
use base::limits::KEYSPACE_NAME_LEN_MAX;
use base::{KeyspaceId, Op, OpKind, Origin, SpaceId, Stamp};

/// Whether a node answers late writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// By an erase, and a copy in quarantine.
    Author,
    /// It may not write: it takes nothing that holds late writes until an author has answered them.
    Reader,
}

/// Where copies are kept.
pub(crate) const QUARANTINE: &str = "esker.quarantine";

const VERSION: u8 = 1;
/// Bytes of keyspace name, lengths and the like in a copy.
const COPY_LEN_MAX: usize = KEYSPACE_NAME_LEN_MAX + 32;
const COPY_KEY_LEN: usize = Origin::LEN + 8 + 16 + 1;

/// The ops of this node that answer late puts.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// How many.
    pub(crate) count: u64,
    /// Their encoding.
    pub(crate) ops: Vec<u8>,
}

impl Answer {
    /// Answers the put `point` of `author` in the keyspace `name`; copies go to `quarantine`.
    pub(crate) fn add(
        &mut self,
        point: &Incoming<'_>,
        author: Origin,
        name: &str,
        quarantine: SpaceId,
    ) {
        let stamp = Stamp { tick: point.tick, origin: author };
        self.push(Op { kind: OpKind::Erase { victim: stamp }, ..point.op });
        let (value, expires_at_ms) = match point.op.kind {
            OpKind::Put(value) => (value, 0),
            OpKind::PutExpiring { expires_at_ms, value } => (value, expires_at_ms),
            OpKind::Delete | OpKind::RangeDelete { .. } | OpKind::Erase { .. } => return,
        };
        let keyspace: KeyspaceId = quarantine.keyspace();
        each_copy(
            &Late { stamp, keyspace: name, key: point.op.key, value, expires_at_ms },
            |key, value| {
                self.push(Op { keyspace, key, kind: OpKind::Put(value) });
            },
        );
    }

    fn push(&mut self, op: Op<'_>) {
        op.encode(&mut self.ops);
        self.count += 1;
    }

    /// The most bytes that the answer to `point` takes in a memtable.
    pub(crate) fn reservation(point: &Incoming<'_>) -> usize {
        let erase = OpKind::Erase { victim: Stamp::default() };
        let what = [0; COPY_KEY_LEN + COPY_LEN_MAX];
        let rest = [OpKind::Put(&what), OpKind::Delete];
        let kinds = [erase, point.op.kind].into_iter().chain(rest);
        let ops = kinds.map(|kind| Memtable::reservation(&Op { kind, ..point.op }));
        ops.sum::<usize>() + COPY_KEY_LEN
    }
}

/// A late put.
#[derive(Debug)]
pub(crate) struct Late<'a> {
    pub(crate) stamp: Stamp,
    /// The keyspace's name.
    pub(crate) keyspace: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// 0 = never.
    pub(crate) expires_at_ms: u64,
}

/// Calls `keep` with the key and the value of each entry of the copy of `late`.
pub(crate) fn each_copy(late: &Late<'_>, mut keep: impl FnMut(&[u8], &[u8])) {
    let mut what = vec![VERSION];
    put_bytes(&mut what, late.keyspace.as_bytes());
    put_bytes(&mut what, late.key);
    what.extend_from_slice(&late.expires_at_ms.to_le_bytes());
    for (part, value) in [(0, &*what), (1, late.value)] {
        keep(&copy_key(late.stamp, late.keyspace, late.key, part), value);
    }
}

fn copy_key(stamp: Stamp, keyspace: &str, key: &[u8], part: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(COPY_KEY_LEN);
    stamp.origin.encode(&mut out);
    out.extend_from_slice(&stamp.tick.raw().to_be_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(keyspace.as_bytes()).update(&[0]).update(key);
    out.extend_from_slice(hasher.finalize().as_bytes().first_chunk::<16>().map_or(&[], |id| id));
    out.push(part);
    out
}
