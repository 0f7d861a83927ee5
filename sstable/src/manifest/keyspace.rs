//! What the manifest knows about a keyspace.
//!
//! ```text
//! size    field
//!    v    id               its number, never reused
//!    v    scope
//!    8    created          tick of its creation
//!    8    dropped          tick of its drop; 0 while it lives
//!    1    compression      of its last level; the table writer knows the numbers
//!    1    filter bits      per key
//!    4    blob threshold   reserved; 0 = off
//!    8    history          milliseconds
//!    v+*  name             1..=255 bytes UTF-8
//! ```

use base::codec::{Decoded, Reader, put_bytes, put_varint};
use base::limits::KEYSPACE_NAME_LEN_MAX;
use base::{Corruption, KeyspaceId, ScopeId, SpaceId, Tick};

/// A keyspace: its numbers, its name and how it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceRecord {
    /// Its number on this node, never reused.
    pub id: KeyspaceId,
    /// The scope it belongs to for ever.
    pub scope: ScopeId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Tick,
    /// When it was dropped, if it was.
    pub dropped: Option<Tick>,
    /// How it is stored.
    pub settings: KeyspaceSettings,
}

/// How a keyspace is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceSettings {
    /// The compression of its last level, as the table writer numbers it; 0 = none.
    pub compression: u8,
    /// Bits of filter per key; 0 = no filter.
    pub filter_bits: u8,
    /// Reserved: values at least this long are stored apart; 0 = never.
    pub blob_threshold: u32,
    /// Milliseconds for which overwritten versions are kept readable.
    pub history_ms: u64,
}

impl KeyspaceRecord {
    /// The keyspace within its scope.
    pub fn space(&self) -> SpaceId {
        SpaceId::new(self.scope, self.id)
    }

    /// Whether it was dropped.
    pub fn is_dropped(&self) -> bool {
        self.dropped.is_some()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.id.0));
        put_varint(out, u64::from(self.scope.0));
        out.extend_from_slice(&self.created.raw().to_le_bytes());
        out.extend_from_slice(&self.dropped.map_or(0, Tick::raw).to_le_bytes());
        out.extend_from_slice(&[self.settings.compression, self.settings.filter_bits]);
        out.extend_from_slice(&self.settings.blob_threshold.to_le_bytes());
        out.extend_from_slice(&self.settings.history_ms.to_le_bytes());
        put_bytes(out, self.name.as_bytes());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Decoded<KeyspaceRecord> {
        let id = KeyspaceId(narrow(reader.varint()?)?);
        let scope = ScopeId(narrow(reader.varint()?)?);
        let created = tick(reader)?;
        let dropped = Some(tick(reader)?).filter(|&dropped| dropped != Tick::ZERO);
        let settings = KeyspaceSettings {
            compression: reader.u8()?,
            filter_bits: reader.u8()?,
            blob_threshold: reader.u32()?,
            history_ms: reader.u64()?,
        };
        let name = reader.bytes()?;
        if name.is_empty() || name.len() > KEYSPACE_NAME_LEN_MAX {
            return Err(Corruption::OutOfRange);
        }
        let name = std::str::from_utf8(name).map_err(|_| Corruption::OutOfRange)?.to_owned();
        Ok(KeyspaceRecord { id, scope, name, created, dropped, settings })
    }
}

/// A varint that must fit 32 bits.
pub(super) fn narrow(value: u64) -> Decoded<u32> {
    u32::try_from(value).map_err(|_| Corruption::OutOfRange)
}

/// A tick of 8 bytes.
pub(super) fn tick(reader: &mut Reader<'_>) -> Decoded<Tick> {
    Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)
}
