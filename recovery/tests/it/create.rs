//! How a database comes to be, and what is refused.

use crate::small::{create, open, open_with, plan};
use base::error::FileKind;
use base::fs::{CrashModel, Fs, SimFs};
use base::{Error, FileName, RelPath};
use recovery::{Create, Stage};
use std::path::Path;
use std::sync::Arc;

const MODELS: [CrashModel; 6] = [
    CrashModel::Kill,
    CrashModel::Synced,
    CrashModel::Prefix,
    CrashModel::Sectors,
    CrashModel::Garbage,
    CrashModel::Directory,
];

#[test]
fn a_new_database_opens_again_as_the_same_one() {
    let fs = SimFs::new(1);
    let small = create(&fs).unwrap();
    assert!(small.recovered.report.created);
    let stages: Vec<Stage> =
        small.recovered.report.stages.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, Stage::ALL);
    let (identity, generation) = (small.recovered.identity, small.recovered.generation);
    drop(small);
    let small = open(&fs).unwrap();
    assert_eq!(small.recovered.identity, identity);
    assert_eq!(small.recovered.generation, generation + 1);
    assert!(!small.recovered.report.created);
}

#[test]
fn a_missing_directory_is_created_only_if_allowed() {
    let fs = SimFs::new(1).at(Path::new("/sim/deep"));
    let try_open = |create| {
        open_with(recovery::Plan { fs: fs.clone(), ..plan(&SimFs::new(1), create) }).map(|_| ())
    };
    assert!(matches!(try_open(Create::Never), Err(Error::NotADatabase { .. })));
    assert!(fs.list(&RelPath::root()).is_err(), "nothing was created");
    try_open(Create::IfMissing).unwrap();
    try_open(Create::Never).unwrap();
    assert!(matches!(try_open(Create::New), Err(Error::AlreadyExists { .. })));
}

#[test]
fn an_empty_directory_is_not_a_database_and_stays_empty() {
    let fs = SimFs::new(1);
    assert!(matches!(open(&fs), Err(Error::NotADatabase { .. })));
    assert!(fs.files().is_empty());
}

#[test]
fn a_directory_of_other_files_is_left_alone() {
    let fs = SimFs::new(1);
    let notes = RelPath::root().join("notes.txt").unwrap();
    fs.write_file(&notes, b"mine".to_vec()).unwrap();
    for create in [Create::Never, Create::IfMissing, Create::New] {
        let error = open_with(plan(&fs, create)).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
    }
    assert_eq!(fs.files(), [notes]);
}

#[test]
fn a_second_open_is_refused_and_names_the_holder() {
    let fs = SimFs::new(1);
    let first = create(&fs).unwrap();
    let error = open(&fs).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Locked { holder: Some(1), .. }), "{error}");
    drop(first);
    open(&fs).unwrap();
}

/// Whatever a creation that was cut short leaves, the next one makes a database; and once the
/// first has been acknowledged, it is that one.
#[test]
fn a_creation_cut_short_anywhere_can_be_tried_again() {
    let whole = SimFs::new(7);
    create(&whole).unwrap();
    for stop in 0..=whole.ops() {
        for model in MODELS {
            let fs = SimFs::new(7);
            fs.stop_after(stop);
            let first = create(&fs).map(|small| small.recovered.identity);
            let image = fs.crash(model);
            let second = create(&image).unwrap_or_else(|e| panic!("{model:?} at {stop}: {e}"));
            if let Ok(identity) = first {
                assert_eq!(second.recovered.identity, identity, "{model:?} at {stop}");
            }
            let identity = second.recovered.identity;
            drop(second);
            assert_eq!(open(&image).unwrap().recovered.identity, identity);
        }
    }
}

/// A directory that has lost its roots is not taken for an unfinished creation.
#[test]
fn lost_roots_are_an_error_and_not_a_fresh_start() {
    let fs = SimFs::new(1);
    create(&fs).unwrap();
    fs.remove_file(&FileName::Current.path()).unwrap();
    fs.remove_file(&FileName::CurrentCopy.path()).unwrap();
    let error = create(&fs).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Missing { file: FileKind::Root, .. }), "{error}");
}

/// Nor is one that has lost its log as well, and never had tables.
#[test]
fn lost_roots_of_a_database_of_keyspaces_alone_are_an_error() {
    let fs = SimFs::new(1);
    let mut small = create(&fs).unwrap();
    small.keyspace().unwrap();
    small.close().unwrap();
    let kept = [FileName::Identity, FileName::Lock, FileName::Manifest(2)].map(FileName::path);
    for file in fs.files().into_iter().filter(|file| !kept.contains(file)) {
        fs.remove_file(&file).unwrap();
    }
    let error = create(&fs).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Missing { file: FileKind::Root, .. }), "{error}");
}

#[test]
fn a_copy_of_the_tables_becomes_a_database_with_a_new_life() {
    let fs = SimFs::new(1);
    let mut small = create(&fs).unwrap();
    small.keyspace().unwrap();
    small.put("a", "1").unwrap();
    small.flush().unwrap();
    small.put("b", "2").unwrap();
    let copy = fs.at(Path::new("/sim/copy"));
    let folder = RelPath::folder("tables");
    copy.create_dir(&RelPath::root()).unwrap();
    copy.create_dir(&folder).unwrap();
    for table in small.recovered.state.version.tables() {
        let path = FileName::Table(table.id).path();
        fs.link(&path, copy.as_ref(), &path).unwrap();
    }
    copy.sync_dir(&folder).unwrap();
    let rng = base::rng::SeededRng::new(99);
    let identity = recovery::new_life(&small.recovered.identity, &rng).unwrap();
    recovery::create_database(copy.as_ref(), &rng, &identity, &small.recovered.state).unwrap();
    let opened = open_with(recovery::Plan { fs: Arc::clone(&copy), ..plan(&fs, Create::Never) });
    let opened = opened.unwrap();
    assert_eq!(opened.content(), [(b"a".to_vec(), b"1".to_vec())].into());
    let (old, new) = (small.recovered.identity, opened.recovered.identity);
    assert_eq!((old.database, old.node, old.secret), (new.database, new.node, new.secret));
    assert_ne!(old.incarnation, new.incarnation);
    let again = recovery::create_database(copy.as_ref(), &rng, &identity, &small.recovered.state);
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
}

#[test]
fn a_fingerprint_starts_with_the_node_it_belongs_to() {
    let identity = recovery::generate_identity(&base::rng::SeededRng::new(1)).unwrap();
    let fingerprint = recovery::public_key_fingerprint(&identity);
    assert_eq!(fingerprint.len(), 64);
    assert!(fingerprint.starts_with(&identity.node.to_string()));
}
