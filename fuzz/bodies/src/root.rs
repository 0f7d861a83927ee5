//! The root and its copy: hostile bytes, genuine roots that were damaged, and hostile fields that
//! verify.

use crate::damage::damage;
use crate::input::Input;
use base::FileName;
use base::fs::SimFs;
use sstable::manifest::{Root, read_root, write_root};

/// From the diagram of the root.
const DIGEST_AT: usize = 104;
const NAMES: [FileName; 2] = [FileName::Current, FileName::CurrentCopy];

/// Reads a root. Of genuine ones that were damaged, what is read is one of those written.
pub fn root(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => hostile_bytes(&mut input),
        1 => damaged(&mut input),
        _ => hostile_fields(&mut input),
    }
}

/// One file is anything, the other missing or anything too.
fn hostile_bytes(input: &mut Input<'_>) {
    let fs = SimFs::new(1);
    let name = NAMES[input.below(2)];
    fs.write_file(&name.path(), input.bytes(300)).unwrap();
    let other = NAMES[usize::from(name == NAMES[0])];
    if !input.is_empty() {
        fs.write_file(&other.path(), input.rest()).unwrap();
    }
    let _ = read_root(&fs);
}

/// Two roots, one newer than the other or both the same; either or both are damaged.
fn damaged(input: &mut Input<'_>) {
    let fs = SimFs::new(1);
    let roots = [genuine(input), genuine(input)];
    write_root(&fs, &roots[0]).unwrap();
    let first = fs.read_file(&FileName::Current.path()).unwrap();
    write_root(&fs, &roots[1]).unwrap();
    if input.below(2) == 0 {
        // The crash came between the two renames.
        fs.write_file(&NAMES[input.below(2)].path(), first).unwrap();
    }
    for name in NAMES {
        let mut bytes = fs.read_file(&name.path()).unwrap();
        damage(&mut bytes, input);
        fs.write_file(&name.path(), bytes).unwrap();
    }
    if let Ok(found) = read_root(&fs) {
        assert!(roots.contains(&found.root), "a root that nobody wrote");
    }
}

/// Any fields under a digest that is right.
fn hostile_fields(input: &mut Input<'_>) {
    let fs = SimFs::new(1);
    let root = genuine(input);
    write_root(&fs, &root).unwrap();
    for name in NAMES {
        let mut bytes = fs.read_file(&name.path()).unwrap();
        bytes.truncate(DIGEST_AT);
        damage(&mut bytes, input);
        bytes.resize(DIGEST_AT, 0);
        let key = blake3::derive_key("esker root v1", b"");
        let digest = blake3::keyed_hash(&key, &bytes);
        bytes.extend_from_slice(digest.as_bytes());
        fs.write_file(&name.path(), bytes).unwrap();
    }
    if let Ok(found) = read_root(&fs) {
        let (fs, root) = (SimFs::new(1), found.root);
        write_root(&fs, &root).unwrap();
        assert_eq!(read_root(&fs).unwrap().root, root, "a root comes back");
    }
}

fn genuine(input: &mut Input<'_>) -> Root {
    Root {
        required_features: 0,
        optional_features: input.number(),
        database: [input.byte(); 16],
        generation: input.number(),
        manifest: input.number(),
        prefix_len: input.number(),
        prefix_digest: [input.byte(); 32],
    }
}
