//! Disks to damage: the files of a database as bytes, and simulated disks made of them.

use base::clock::ManualClock;
use base::dir::{MANIFEST_DIR, TABLES_DIR, WAL_DIR};
use base::fs::{Fs, SimFs};
use base::rng::SeededRng;
use base::{FileName, RelPath};
use engine::{Background, Db, Options, Platform};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the clock shows.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// The files of a database that hold data, by path.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// What kind of file stands at a path of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Identity,
    Root,
    Manifest,
    Log,
    Table,
    /// None of ours.
    Stranger,
}

impl Kind {
    pub(crate) fn of(path: &str) -> Kind {
        match FileName::parse(path) {
            Some(FileName::Identity) => Kind::Identity,
            Some(FileName::Current | FileName::CurrentCopy) => Kind::Root,
            Some(FileName::Manifest(_)) => Kind::Manifest,
            Some(FileName::Segment(_)) => Kind::Log,
            Some(FileName::Table(_)) => Kind::Table,
            Some(
                FileName::Lock
                | FileName::CurrentTemp
                | FileName::IdentityTemp
                | FileName::Reserve
                | FileName::Archived(_),
            )
            | None => Kind::Stranger,
        }
    }
}

/// The path that `text` says.
pub(crate) fn path(text: &str) -> RelPath {
    text.split('/').fold(RelPath::root(), |path, step| path.join(step).unwrap())
}

/// The files of `fs` that hold data: not the lock, the reserve, or what is in quarantine.
pub(crate) fn image(fs: &SimFs) -> Image {
    let files = fs.files().into_iter();
    let holds_data =
        |path: &&str| !["LOCK", "RESERVE"].contains(path) && !path.starts_with("quarantine/");
    let data = files.filter(|path| holds_data(&path.as_str()));
    data.map(|path| (path.as_str().to_owned(), fs.read_file(&path).unwrap())).collect()
}

/// A disk that holds `image` and nothing else.
pub(crate) fn disk_of(image: &Image) -> SimFs {
    let fs = SimFs::new(1);
    for folder in [MANIFEST_DIR, WAL_DIR, TABLES_DIR] {
        fs.create_dir(&RelPath::folder(folder)).unwrap();
    }
    for (name, bytes) in image {
        fs.write_file(&path(name), bytes.as_slice()).unwrap();
    }
    fs
}

pub(crate) fn platform(fs: &SimFs) -> Platform {
    Platform {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::at(NOW_MS)),
        rng: Arc::new(SeededRng::new(fs.ops() ^ fs.trace())),
    }
}

/// The smallest sizes, and every step in the test's hands.
pub(crate) fn small() -> Options {
    Options {
        memtable_bytes: 64 << 10,
        memory_bytes: 1 << 20,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    }
}

pub(crate) fn open(fs: &SimFs, options: Options) -> engine::Result<Db> {
    Db::open_on(platform(fs), options)
}
