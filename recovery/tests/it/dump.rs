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

/// Damaged in any way at any byte: it says where and why it stops, never panics, and shows nothing that
/// is not in the whole file.
#[test]
fn a_file_damaged_at_any_byte_is_rendered_as_far_as_it_makes_sense() {
    let fs = sample();
    for (name, dump, _) in DUMPS {
        let path = name.path();
        let whole = fs.read_file(&path).unwrap();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let (_, complete) = lines(&fs, &path, dump);
        let complete: Vec<&str> = complete.lines().collect();
        let mut stopped = 0;
        for at in 0..end {
            for bytes in damages(&whole, at) {
                let len = bytes.len();
                fs.write_file(&path, bytes).unwrap();
                let (outcome, text) = lines(&fs, &path, dump);
                let mut shown: Vec<&str> = text.lines().collect();
                let last = shown.pop().unwrap();
                let stop = last.strip_prefix("stops at byte ");
                let told = match outcome {
                    Outcome::Stopped(offset) => Some(offset.to_string()),
                    Outcome::Whole => None,
                };
                let said = stop.and_then(|stop| stop.split_once(": ")).map(|(at, _)| at.to_owned());
                assert_eq!(told, said, "{path} at {at}: {last}");
                assert!(complete.starts_with(&shown), "{path} at {at}: it made something up");
                if let Some((offset, why)) = stop.and_then(|stop| stop.split_once(": ")) {
                    stopped += 1;
                    assert!(offset.parse::<usize>().unwrap() <= len, "{path} at {at}: {last}");
                    assert!(!why.is_empty());
                }
            }
        }
        assert!(stopped > end / 2, "{path}: stopped {stopped} times for {end} bytes");
        fs.write_file(&path, whole).unwrap();
    }
}

/// A flipped bit, an early end, zeros, garbage, and another stretch of the file, each at `at`.
fn damages(whole: &[u8], at: usize) -> [Vec<u8>; 5] {
    let end = (at + 64).min(whole.len());
    let mut all = [(); 5].map(|()| whole.to_vec());
    all[0][at] ^= 1 << (at % 8);
    all[1].truncate(at);
    all[2][at..end].fill(0);
    all[3][at..end].fill(0xa7);
    let from = whole.len() / 3;
    let len = (end - at).min(whole.len() - from);
    all[4][at..at + len].copy_from_slice(&whole[from..from + len]);
    all
}
