//! Invitations that are open, kept over a restart in the keyspace `esker.node`.
//!
//! ```text
//! key        "invitations"
//! size       field
//!    1       version      1
//!    v       invitations  how many, at most 16
//!   per invitation:
//!   16         secret     of its token
//!    8         until      when it ends, in milliseconds since the Unix epoch
//! ```

use crate::link::{Keep, LinkError, OpenInvite, Side};
use crate::store::{Store, keyspaces};
use base::codec::{Decoded, Reader, put_varint};
use base::{Corruption, Result, ScopeId};
use std::sync::{Arc, Weak};
use std::time::Duration;

const VERSION: u8 = 1;
const KEY: &[u8] = b"invitations";
const INVITES_MAX: usize = 16;

/// Those that are open still.
pub(super) fn read(store: &dyn Store) -> Result<Vec<OpenInvite>> {
    let Some(bytes) = store.get(keyspaces::NODE, KEY)? else { return Ok(Vec::new()) };
    match decode(&bytes, store.wall_ms()) {
        Ok(open) => Ok(open),
        Err(found) => {
            tracing::warn!(code = "Malformed", %found, "the open invitations are damaged: invite again");
            Ok(Vec::new())
        }
    }
}

/// Keeps those that are open from now on, as long as somebody holds `store`.
pub(super) fn keep(store: &Arc<dyn Store>) -> Keep {
    let store = Arc::downgrade(store);
    Arc::new(move |open| {
        let refused = |reason| LinkError::Join { by: Side::Us, reason };
        let store = Weak::upgrade(&store).ok_or_else(|| refused("the node shuts down"))?;
        let value = encode(open, store.wall_ms());
        let kept = store.put(ScopeId::LOCAL, keyspaces::NODE, KEY, &value);
        kept.map(drop).map_err(|error| {
            tracing::warn!(code = error.code(), %error, "an invitation can not be kept");
            refused("invitations can not be kept now")
        })
    })
}

fn encode(open: &[OpenInvite], wall_ms: u64) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_varint(&mut out, open.len() as u64);
    for OpenInvite { secret, remaining } in open {
        let remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
        out.extend_from_slice(secret);
        out.extend_from_slice(&wall_ms.saturating_add(remaining_ms).to_le_bytes());
    }
    out
}

fn decode(bytes: &[u8], wall_ms: u64) -> Decoded<Vec<OpenInvite>> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != VERSION {
        return Err(Corruption::UnknownKind);
    }
    let count = reader.len()?;
    if count > INVITES_MAX {
        return Err(Corruption::OutOfRange);
    }
    let mut open = Vec::new();
    for _ in 0..count {
        let secret = reader.array()?;
        let remaining = Duration::from_millis(reader.u64()?.saturating_sub(wall_ms));
        open.push(OpenInvite { secret, remaining });
    }
    open.retain(|invite| !invite.remaining.is_zero());
    if reader.is_empty() { Ok(open) } else { Err(Corruption::TrailingBytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn invitations_come_back_for_the_time_that_is_left(all in proptest::collection::vec((any::<[u8; 16]>(), 1u64..600_000), 0..16), later_ms in 0u64..600_000) {
            let invite = |(secret, ms): &([u8; 16], u64)| OpenInvite { secret: *secret, remaining: Duration::from_millis(*ms) };
            let open: Vec<OpenInvite> = all.iter().map(invite).collect();
            let after = decode(&encode(&open, 1_000), 1_000 + later_ms).unwrap();
            let left = all.iter().filter(|(_, ms)| *ms > later_ms).map(|(secret, ms)| (*secret, ms - later_ms));
            let left: Vec<OpenInvite> = left.map(|pair| invite(&pair)).collect();
            prop_assert_eq!(after, left);
        }

        #[test]
        fn hostile_records_never_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            let _ = decode(&bytes, 0);
        }
    }
}
