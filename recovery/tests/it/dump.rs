//! Files rendered as lines.

use crate::small::{create, key, value};
use base::fs::{Fs, SimFs};
use base::{FileName, RelPath, Result};
use recovery::dump::{self, Outcome};
use std::io::Write;
use std::sync::Arc;

fn sample() -> SimFs {
    let fs = SimFs::new(1);
    let mut small = create(&fs).unwrap();
    small.keyspace().unwrap();
    (0..5).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    small.flush().unwrap();
    (5..8).for_each(|n| small.put(&key(n), &value(n)).unwrap());
    small.sync().unwrap();
    drop(small);
    fs
}

type Dump = fn(Arc<dyn base::fs::ReadFile>, &mut dyn Write) -> Result<Outcome>;

const DUMPS: [(FileName, Dump, &str); 3] = [
    (FileName::Segment(1), dump::wal, "put key\\x200004"),
    (FileName::Manifest(2), dump::manifest, "keyspace 1/1 main"),
    (FileName::Table(1), dump::table, "Put key"),
];

fn lines(fs: &SimFs, path: &RelPath, dump: Dump) -> (Outcome, String) {
    let mut out = Vec::new();
    let outcome = dump(fs.open(path).unwrap(), &mut out).unwrap();
    (outcome, String::from_utf8(out).unwrap())
}

#[test]
fn a_whole_file_is_rendered_to_its_end_wherever_it_stands() {
    let fs = sample();
    for (name, dump, part) in DUMPS {
        let elsewhere = RelPath::root().join("copy").unwrap();
        fs.write_file(&elsewhere, fs.read_file(&name.path()).unwrap()).unwrap();
        let (outcome, text) = lines(&fs, &elsewhere, dump);
        assert_eq!(outcome, Outcome::Whole, "{text}");
        let part = part.replace("\\x20", " ");
        assert!(text.contains(&part), "{part:?} is not in\n{text}");
        assert!(text.lines().last().unwrap().starts_with("ends at byte"), "{text}");
        fs.remove_file(&elsewhere).unwrap();
    }
}

/// Cut or flipped anywhere: it says where and why it stops, and never panics.
#[test]
fn a_damaged_file_is_rendered_as_far_as_it_makes_sense() {
    let fs = sample();
    for (name, dump, _) in DUMPS {
        let path = name.path();
        let whole = fs.read_file(&path).unwrap();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for at in (0..end).step_by(7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            for bytes in [flipped, whole[..at].to_vec()] {
                fs.write_file(&path, bytes).unwrap();
                let (outcome, text) = lines(&fs, &path, dump);
                let last = text.lines().last().unwrap();
                let stops = last.starts_with("stops at byte");
                assert_eq!(outcome == Outcome::Stopped, stops, "{path} at {at}: {last}");
            }
        }
        fs.write_file(&path, whole).unwrap();
    }
}
