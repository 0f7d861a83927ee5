//! The records of a commit, as the log hands them up.

use base::Trailer;
use base::record::{Records, encode_author_header, encode_manifest_record};
use base::remote::{Outcomes, RemoteHeader, encode_remote_batch};

/// Decodes `data` as the records of a commit. What decodes, encodes to the same bytes: there is one
/// way to write a record.
pub fn batch(data: &[u8]) {
    let mut again = Vec::new();
    let mut records = Records::new(data);
    for record in records.by_ref() {
        let Ok(record) = record else { return };
        let (seqno, scope) = (record.seqno, record.scope);
        if let Some(durable) = record.manifest {
            encode_manifest_record(&mut again, seqno, durable);
            continue;
        }
        if let Some(remote) = &record.remote {
            let mut outcomes = Outcomes::lost(remote.ops().count());
            let decided = remote.ops().enumerate();
            decided.for_each(|(index, op)| outcomes.set(index, op.outcome));
            let (number, before) = (remote.number, remote.before);
            let (keyspaces, outcomes) = (&*remote.keyspaces, &outcomes);
            let header = RemoteHeader { seqno, scope, number, before, keyspaces, outcomes };
            encode_remote_batch(&mut again, &header, remote.bytes);
            continue;
        }
        encode_author_header(&mut again, seqno, scope, record.previous, record.op_count);
        let mut ops = 0;
        for op in record.ops {
            op.encode(&mut again);
            assert_eq!(Trailer::new(seqno, op.entry_kind()).seqno(), seqno);
            ops += 1;
        }
        assert_eq!(ops, record.op_count, "checked ops are all there");
    }
    assert!(records.next().is_none(), "it stays at its end");
    assert_eq!(again, data, "there is one way to write a record");
}
