//! Faults that spoil, lose or misplace bytes while the disk is in use.

use super::*;

fn finish(fs: &SimFs, name: &str, pieces: &[&[u8]]) -> io::Result<()> {
    let mut file = fs.create(&path(name), 0)?;
    pieces.iter().try_for_each(|piece| file.append(piece))?;
    file.finish().map(drop)
}

fn read(fs: &SimFs, name: &str, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fs.open(&path(name)).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// Pages of ones, twos, threes.
fn pages(count: u8) -> Vec<u8> {
    (1..=count).flat_map(|number| [number; 4096]).collect()
}

#[test]
fn a_page_reads_or_lands_as_zeros() {
    let fs = SimFs::new(1);
    fs.write_file(&path("a"), pages(3)).unwrap();
    fs.inject(FaultPlan::new(OpKind::Read, Fault::ZeroedPage(1)));
    let bytes = read(&fs, "a", 4000, 5000);
    assert_eq!((bytes[95], bytes[96], bytes[4191], bytes[4192]), (1, 0, 0, 3));
    assert_eq!(read(&fs, "a", 4000, 5000)[96], 2, "only once");
    fs.inject(FaultPlan::new(OpKind::Append, Fault::ZeroedPage(5)));
    finish(&fs, "b", &[&pages(3)]).unwrap();
    let bytes = fs.read_file(&path("b")).unwrap();
    assert_eq!((bytes[8191], bytes[8192], bytes[12287]), (2, 0, 0), "5 of 3 pages is the third");
}

#[test]
fn a_read_is_of_another_place_or_another_file() {
    let fs = SimFs::new(1);
    fs.write_file(&path("a"), pages(3)).unwrap();
    fs.write_file(&path("b"), [9; 5000]).unwrap();
    fs.inject(FaultPlan::new(OpKind::Read, Fault::WrongPlace(2)));
    assert_eq!(read(&fs, "a", 4196, 100), [1; 100], "page 1 and 2 more, of 3, is page 0");
    fs.inject(FaultPlan::new(OpKind::Read, Fault::WrongFile(7)));
    assert_eq!(read(&fs, "a", 4196, 100), [9; 100]);
    fs.inject(FaultPlan::new(OpKind::Read, Fault::WrongFile(0)));
    assert_eq!(read(&fs, "a", 8192, 100), [3; 100], "no other file is that long");
}

#[test]
fn an_append_lands_in_another_place_or_another_file() {
    let fs = SimFs::new(1);
    fs.write_file(&path("b"), [9; 9000]).unwrap();
    fs.inject(FaultPlan::new(OpKind::Append, Fault::WrongPlace(1)).after(1));
    finish(&fs, "a", &[&pages(2), &[7; 100]]).unwrap();
    let bytes = fs.read_file(&path("a")).unwrap();
    assert_eq!(bytes.len(), 8292);
    assert_eq!(bytes[4096..4196], [7; 100], "page 2 and 1 more, of 2, is page 1");
    assert_eq!((bytes[4095], bytes[4196]), (1, 2));
    assert_eq!(bytes[8192..], [0; 100]);
    fs.inject(FaultPlan::new(OpKind::Append, Fault::WrongFile(0)).on("/c"));
    finish(&fs, "c", &[&[5; 300]]).unwrap();
    assert_eq!(fs.read_file(&path("c")).unwrap(), [0; 300]);
    let landed = ["a", "b"].map(|name| fs.read_file(&path(name)).unwrap()[..300] == [5; 300]);
    assert_eq!(landed.iter().filter(|landed| **landed).count(), 1);
}

#[test]
fn a_sync_may_lose_for_ever_what_it_says_it_secured() {
    let (fs, mut file) = disk_with_file(1, 0);
    fs.inject(FaultPlan::new(OpKind::SyncData, Fault::LosingSync));
    file.append(b"lost").unwrap();
    file.sync_handle().sync_data().unwrap();
    file.append(b"kept").unwrap();
    file.sync_handle().sync_data().unwrap();
    assert_eq!(fs.read_file(&path("a")).unwrap(), b"lostkept");
    assert_eq!(fs.crash(CrashModel::Synced).read_file(&path("a")).unwrap(), b"\0\0\0\0kept");
}

#[test]
fn a_sync_of_a_folder_may_lie_and_its_names_are_lost_for_ever() {
    for (fault, kept) in [(Fault::Io, &["a", "b"][..]), (Fault::LosingSync, &["b"][..])] {
        let fs = SimFs::new(1);
        fs.create(&path("a"), 0).unwrap();
        fs.inject(FaultPlan::new(OpKind::SyncDir, fault));
        assert_eq!(fs.sync_dir(&RelPath::root()).is_err(), fault == Fault::Io);
        assert!(names(&fs.crash(CrashModel::Synced)).is_empty());
        fs.create(&path("b"), 0).unwrap();
        fs.sync_dir(&RelPath::root()).unwrap();
        assert_eq!(names(&fs), ["a", "b"]);
        assert_eq!(names(&fs.crash(CrashModel::Synced)), kept);
    }
}

#[test]
fn a_signal_interrupts_a_call_before_it_did_anything() {
    let (fs, mut file) = disk_with_file(1, 0);
    fs.inject(FaultPlan::any(Fault::Interrupted).sticky());
    assert_eq!(file.append(b"x").unwrap_err().kind(), io::ErrorKind::Interrupted);
    let error = file.sync_handle().sync_data().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    fs.clear_faults();
    file.append(b"y").unwrap();
    file.sync_handle().sync_data().unwrap();
    assert_eq!(fs.crash(CrashModel::Synced).read_file(&path("a")).unwrap(), b"y");
}

#[test]
fn any_call_can_be_struck_by_its_number() {
    let run = |fault_at: Option<u64>| {
        let fs = SimFs::new(1);
        if let Some(number) = fault_at {
            fs.inject(FaultPlan::any(Fault::Io).after(number));
        }
        let result = finish(&fs, "a", &[b"x"]).and_then(|()| fs.open(&path("a")).map(drop));
        (result.is_ok(), fs.calls(), fs.struck())
    };
    assert_eq!(run(None), (true, 5, vec![]));
    let kinds = [OpKind::Create, OpKind::Append, OpKind::Finish, OpKind::SyncData, OpKind::Open];
    for (number, kind) in (0..).zip(kinds) {
        assert_eq!(run(Some(number)), (false, number + 1, vec![(kind, "/sim/a".to_owned())]));
    }
}
