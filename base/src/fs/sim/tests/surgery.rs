//! What can be done to files behind everyone's back.

use super::*;

#[test]
fn files_are_cut_extended_patched_swapped_and_doubled() {
    let fs = SimFs::new(1);
    fs.write_file(&path("a"), "abcdef").unwrap();
    fs.write_file(&path("b"), "xyz").unwrap();
    fs.resize_file(&path("a"), 2).unwrap();
    fs.resize_file(&path("a"), 4).unwrap();
    assert_eq!(fs.read_file(&path("a")).unwrap(), b"ab\0\0");
    fs.patch_file(&path("a"), 3, b"cd").unwrap();
    fs.swap_files(&path("a"), &path("b")).unwrap();
    fs.duplicate_file(&path("b"), &path("c")).unwrap();
    for image in [fs.crash(CrashModel::Synced), fs.clone()] {
        let found = ["a", "b", "c"].map(|name| image.read_file(&path(name)).unwrap());
        assert_eq!(found, [b"xyz".to_vec(), b"ab\0cd".to_vec(), b"ab\0cd".to_vec()]);
    }
    assert_eq!((fs.ops(), fs.calls()), (0, 0), "nothing of this counts");
}

#[test]
fn a_file_is_rolled_back_to_what_it_was() {
    let fs = SimFs::new(1);
    fs.write_file(&path("a"), "old").unwrap();
    let earlier = fs.fork();
    fs.write_file(&path("a"), "new").unwrap();
    fs.write_file(&path("b"), "new").unwrap();
    fs.roll_back_file(&path("a"), &earlier).unwrap();
    fs.roll_back_file(&path("b"), &earlier).unwrap();
    assert_eq!(names(&fs), ["a"]);
    assert_eq!(fs.read_file(&path("a")).unwrap(), b"old");
    assert!(fs.roll_back_file(&path("c"), &earlier).is_err(), "there is no such file at all");
}

#[test]
fn equal_disks_have_equal_digests_and_each_byte_counts() {
    let disk = || {
        let fs = SimFs::new(1);
        fs.create_dir(&RelPath::folder("wal")).unwrap();
        fs.write_file(&path("a"), [0; 9000]).unwrap();
        fs
    };
    let digests = [
        disk().digest(),
        {
            let fs = disk();
            fs.patch_file(&path("a"), 8191, &[1]).unwrap();
            fs.digest()
        },
        {
            let fs = disk();
            fs.resize_file(&path("a"), 9001).unwrap();
            fs.digest()
        },
        {
            let fs = disk();
            fs.rename(&path("a"), &path("b")).unwrap();
            fs.digest()
        },
    ];
    assert_eq!(BTreeSet::from(digests).len(), digests.len());
    assert_eq!(disk().digest(), disk().digest());
    let written = disk();
    written.patch_file(&path("a"), 0, &[0]).unwrap();
    assert_eq!(written.digest(), disk().digest(), "how zeros came to be does not count");
}
