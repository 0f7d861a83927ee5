//! Blocks: hostile ones, and genuine ones that were damaged.

use crate::damage::damage;
use crate::input::Input;
use base::{EntryKind, SpaceId, Tick, Trailer};
use sstable::block::{Block, BlockBuilder, Repeat};
use std::collections::BTreeMap;

/// Decodes hostile bytes as a block, then uses all that a block can do.
pub fn block(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let seqno = (mode & 2 != 0).then(|| Tick::from_ms(7));
    let mut bytes = if mode & 1 == 0 { input.rest().to_vec() } else { genuine(&mut input) };
    if mode & 1 != 0 {
        damage(&mut bytes, &mut input);
    }
    let Ok(block) = Block::decode(bytes, seqno) else { return };
    exercise(&block);
}

/// A block of entries that `input` chooses.
fn genuine(input: &mut Input<'_>) -> Vec<u8> {
    let mut entries = BTreeMap::new();
    for _ in 0..1 + input.below(40) {
        let key = [b"key/", input.bytes(20)].concat();
        entries.insert(key, input.bytes(30).to_vec());
    }
    let mut builder = BlockBuilder::default();
    let versions = 1 + input.below(2) as u64;
    for (key, value) in entries {
        for version in (0..versions).rev() {
            let trailer = Trailer::new(Tick::from_ms(version), EntryKind::Put);
            let is_newest = version + 1 == versions;
            let repeat = if is_newest { Repeat::NewKey } else { Repeat::OlderVersion };
            builder.push(&key, trailer, &value, repeat);
        }
    }
    let mut bytes = Vec::new();
    builder.finish(SpaceId(input.number()), &mut bytes);
    bytes
}

fn exercise(block: &Block) {
    let mut previous: Option<(Vec<u8>, Trailer)> = None;
    let mut key = Vec::new();
    assert!(block.count() > 0);
    for index in 0..block.count() {
        key.clear();
        key.extend_from_slice(block.common_prefix());
        let (trailer, value) = block.read(index, &mut key);
        assert_eq!(block.bytes().get(value), Some(block.value(index)));
        assert_eq!((block.key(index), block.trailer(index)), (key.clone(), trailer));
        if let Some((last_key, last_trailer)) = &previous {
            let order = last_key.cmp(&key).then(trailer.cmp(last_trailer));
            assert!(order.is_lt(), "entries ascend");
        }
        assert_eq!(block.search(&key, trailer), index);
        assert_eq!(block.find(&key, trailer), Some(index));
        previous = Some((key.clone(), trailer));
    }
    for key in [b"".as_slice(), b"key/", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", block.bytes()] {
        let at = block.search(key, Trailer::MAX);
        assert!(at == block.count() || block.key(at).as_slice() >= key);
        assert!(at == 0 || block.key(at - 1).as_slice() < key);
    }
}
