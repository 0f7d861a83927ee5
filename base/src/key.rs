//! Keys: which keyspace, which user key, which version.
//!
//! An internal key is (scope, keyspace, user key, trailer). Order: scope and keyspace ascending,
//! user key ascending as bytes, trailer descending, so that the newest version comes first.
//!
//! ```text
//! space, u64          32 bits scope, 32 bits keyspace
//! trailer, u64        56 bits seqno, 8 bits entry kind
//! ```

use crate::tick::Tick;

/// A dataset that replicates as a whole. Scope 0 is this node's own; the default is [`ScopeId::MAIN`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeId(pub u32);

impl ScopeId {
    /// This node's own scope: system and local-only keyspaces.
    pub const LOCAL: ScopeId = ScopeId(0);
    /// The default scope, `main`.
    pub const MAIN: ScopeId = ScopeId(1);

    /// Whether nodes share it.
    pub const fn is_replicated(self) -> bool {
        self.0 != ScopeId::LOCAL.0
    }
}

/// The local number of a keyspace. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(pub u32);

/// What the numbers of local keyspaces have, and others do not: tables of another node bring their
/// numbers along, and those shall be free here.
const LOCAL_BIT: u32 = 1 << 31;

impl KeyspaceId {
    /// The `count`th number that is given out, for a keyspace of `scope`.
    pub const fn nth(scope: ScopeId, count: u32) -> KeyspaceId {
        match scope.is_replicated() {
            true => KeyspaceId(count & !LOCAL_BIT),
            false => KeyspaceId(count | LOCAL_BIT),
        }
    }

    /// Which of the numbers given out it is.
    pub const fn count(self) -> u32 {
        self.0 & !LOCAL_BIT
    }
}

/// A keyspace within its scope, as one number that sorts like the pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u64);

impl SpaceId {
    /// The keyspace `keyspace` of `scope`.
    pub const fn new(scope: ScopeId, keyspace: KeyspaceId) -> SpaceId {
        SpaceId((scope.0 as u64) << 32 | keyspace.0 as u64)
    }

    /// The scope.
    pub const fn scope(self) -> ScopeId {
        ScopeId((self.0 >> 32) as u32)
    }

    /// The keyspace.
    pub const fn keyspace(self) -> KeyspaceId {
        KeyspaceId(self.0 as u32)
    }
}

/// What an entry is. Part of the format, do not change; 0 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// The key is deleted. No value.
    Delete = 1,
    /// The key has the value.
    Put = 2,
    /// The key has a value until a moment: 8 bytes of milliseconds since the epoch, then the value.
    PutExpiring = 3,
    /// All keys from this one to the end key in the value are deleted. Lives in its own section.
    RangeDelete = 4,
    /// A tombstone ordered just above a victim's stamp, see [`crate::foreign`].
    Erase = 5,
    /// Reserved: an operand to be merged.
    Merge = 6,
    /// Reserved: the value is stored apart.
    BlobReference = 7,
}

impl EntryKind {
    /// The bit beside the kind that says: the value is preceded by the author's stamp, because the
    /// author is not what "local" means here. See [`crate::foreign`].
    pub const FOREIGN_BIT: u8 = 0x80;
    /// The bit beside the kind of a foreign entry, or an erase, that says: its ticks are stored as they
    /// are, because its seqno was not known when it was written. See [`crate::foreign`].
    pub const DATED_BIT: u8 = 0x40;
    /// Bytes of the expiry moment before the value of a [`EntryKind::PutExpiring`].
    pub const EXPIRY_LEN: usize = 8;

    /// The kind whose byte is `raw`, or `None` for a byte this version does not know.
    pub const fn from_raw(raw: u8) -> Option<EntryKind> {
        Some(match raw {
            1 => EntryKind::Delete,
            2 => EntryKind::Put,
            3 => EntryKind::PutExpiring,
            4 => EntryKind::RangeDelete,
            5 => EntryKind::Erase,
            6 => EntryKind::Merge,
            7 => EntryKind::BlobReference,
            _ => return None,
        })
    }
}

/// The version of an entry: its seqno and its kind in one number. A larger trailer is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trailer(pub u64);

impl Trailer {
    /// Below every trailer.
    pub const MIN: Trailer = Trailer(0);
    /// Above every trailer: seeks to the newest version.
    pub const MAX: Trailer = Trailer(u64::MAX);

    /// The trailer of an entry of `kind` in commit `seqno`.
    pub const fn new(seqno: Tick, kind: EntryKind) -> Trailer {
        Trailer(seqno.raw() << 8 | kind as u64)
    }

    /// The trailer of an entry of `kind` by another author, in commit `seqno`.
    pub const fn foreign(seqno: Tick, kind: EntryKind) -> Trailer {
        Trailer(seqno.raw() << 8 | (kind as u8 | EntryKind::FOREIGN_BIT) as u64)
    }

    /// The trailer of an entry of `kind` by another author, or of an erase, in a commit whose seqno is not
    /// known yet.
    pub const fn dated(kind: EntryKind) -> Trailer {
        let foreign = match kind {
            EntryKind::Erase => 0,
            _ => EntryKind::FOREIGN_BIT,
        };
        Trailer((kind as u8 | foreign | EntryKind::DATED_BIT) as u64)
    }

    /// The largest trailer of commit `seqno`: seeks to what a read at `seqno` may see.
    pub const fn at(seqno: Tick) -> Trailer {
        Trailer(seqno.raw() << 8 | 0xff)
    }

    /// The commit.
    pub const fn seqno(self) -> Tick {
        match Tick::from_raw(self.0 >> 8) {
            Some(tick) => tick,
            None => Tick::MAX,
        }
    }

    /// Whether the value is preceded by the author's stamp.
    #[inline]
    pub const fn is_foreign(self) -> bool {
        self.0 as u8 & EntryKind::FOREIGN_BIT != 0
    }

    /// Whether ticks before the value are stored as they are, and not as ages.
    #[inline]
    pub const fn is_dated(self) -> bool {
        self.0 as u8 & EntryKind::DATED_BIT != 0
    }

    /// Whether it is a put of the local author: what is stored is the value.
    #[inline]
    pub const fn is_plain_put(self) -> bool {
        self.0 as u8 == EntryKind::Put as u8
    }

    /// The same version as a tombstone of `kind`, of the same author.
    pub const fn with_kind(self, kind: EntryKind) -> Trailer {
        let beside = self.0 & (EntryKind::FOREIGN_BIT | EntryKind::DATED_BIT) as u64;
        Trailer(self.0 & !0xff | beside | kind as u64)
    }

    /// The kind, or `None` for a byte this version does not know.
    pub const fn kind(self) -> Option<EntryKind> {
        EntryKind::from_raw(self.0 as u8 & !(EntryKind::FOREIGN_BIT | EntryKind::DATED_BIT))
    }
}

/// The first 8 bytes of `key` as a number that sorts like them; shorter keys are padded with zeros,
/// so equal prefixes decide nothing.
#[inline]
pub fn key_prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(key) {
                *to = *from;
            }
            u64::from_be_bytes(padded)
        }
    }
}

/// The hash of a key, computed once per operation and shared by memtable filter and table filters.
/// Part of the table format (filters): XXH3-64 with the space as seed.
#[inline]
pub fn key_hash(space: SpaceId, key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(key, space.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_newest_version_has_the_largest_trailer() {
        let older = Trailer::new(Tick::from_ms(1), EntryKind::Put);
        let newer = Trailer::new(Tick::from_ms(2), EntryKind::Delete);
        assert!(newer > older && Trailer::at(Tick::from_ms(1)) > older);
        assert_eq!(newer.kind(), Some(EntryKind::Delete));
        assert_eq!(newer.seqno(), Tick::from_ms(2));
    }

    proptest! {
        /// Unequal prefixes order keys exactly as their bytes do.
        #[test]
        fn prefixes_sort_like_keys(
            a in proptest::collection::vec(0u8..3, 0..12), b in proptest::collection::vec(0u8..3, 0..12)
        ) {
            let (pa, pb) = (key_prefix(&a), key_prefix(&b));
            if pa != pb {
                prop_assert_eq!(pa.cmp(&pb), a.cmp(&b));
            }
        }
    }
}
