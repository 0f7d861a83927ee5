//! Moments of a recorded workload crash as the workload itself would have.

use super::*;

fn workload(fs: &SimFs) -> io::Result<()> {
    let mut file = fs.create(&path("a"), 4096)?;
    for number in 0..8_u8 {
        file.append(&[number + 1; 700])?;
        fs.mark(u64::from(number) + 1);
        if number % 3 == 2 {
            file.sync_handle().sync_data()?;
            fs.sync_dir(&RelPath::root())?;
        }
    }
    file.finish()?;
    fs.rename(&path("a"), &path("b"))
}

#[test]
fn a_moment_crashes_like_a_run_that_is_cut_there() {
    let whole = SimFs::new(3);
    whole.record();
    workload(&whole).unwrap();
    let moments = whole.take_moments();
    assert_eq!(moments.len() as u64, whole.ops() + 1);
    for (stop, moment) in (0..).zip(&moments) {
        assert_eq!(moment.ops(), stop);
        let cut = SimFs::new(3);
        cut.stop_after(stop);
        let _ = workload(&cut);
        for model in [CrashModel::Synced, CrashModel::SyncLied] {
            assert_eq!(moment.crash(model, 0).digest(), cut.crash(model).digest(), "{stop}");
        }
        // A kill may leave a part of the append that it interrupts, not always the same one.
        let (image, other) = (moment.crash(CrashModel::Kill, 0), cut.crash(CrashModel::Kill));
        assert_eq!(image.files(), other.files());
        for file in image.files() {
            let (bytes, others) =
                (image.read_file(&file).unwrap(), other.read_file(&file).unwrap());
            let end = moment.mark() as usize * 700;
            assert_eq!(bytes.get(..end), others.get(..end), "{stop}");
        }
    }
}

#[test]
fn an_append_that_a_kill_interrupts_is_there_in_any_part() {
    let fs = SimFs::new(1);
    fs.record();
    let mut file = fs.create(&path("a"), 0).unwrap();
    file.append(&[1; 10]).unwrap();
    let moments = fs.take_moments();
    let lens: BTreeSet<_> = (0..200)
        .map(|seed| moments[1].crash(CrashModel::Kill, seed).read_file(&path("a")).unwrap().len())
        .collect();
    assert!(lens.iter().eq(&(0..=10).collect::<Vec<_>>()), "{lens:?}");
}

#[test]
fn the_same_moment_model_and_seed_make_the_same_image() {
    let images = || {
        let fs = SimFs::new(9);
        fs.record();
        workload(&fs).unwrap();
        let moments = fs.take_moments();
        let each = moments.iter().flat_map(|moment| {
            MODELS.map(|model| (0..4).map(|seed| moment.crash(model, seed).digest()).collect())
        });
        each.collect::<Vec<Vec<u128>>>()
    };
    let found = images();
    assert_eq!(found, images());
    let distinct: BTreeSet<u128> = found.iter().flatten().copied().collect();
    assert!(distinct.len() > 100, "{}", distinct.len());
}

#[test]
fn a_rename_that_survives_may_leave_its_old_name_or_empty_its_file() {
    let fs = SimFs::new(1);
    let mut file = fs.create(&path("a"), 0).unwrap();
    file.append(b"bytes").unwrap();
    fs.rename(&path("a"), &path("b")).unwrap();
    let seen: BTreeSet<_> = (0..200)
        .map(|_| {
            let after = fs.crash(CrashModel::Directory);
            let len = after.read_file(&path("b")).map(|bytes| bytes.len()).ok();
            (names(&after).concat(), len)
        })
        .collect();
    for expected in [("b", Some(0)), ("b", Some(5)), ("ab", Some(0)), ("ab", Some(5))] {
        assert!(seen.contains(&(expected.0.to_owned(), expected.1)), "{expected:?} in {seen:?}");
    }
}

#[test]
fn a_fork_goes_its_own_way_and_takes_what_is_at_risk_along() {
    let (fs, mut file) = disk_with_file(1, 0);
    file.append(b"risked").unwrap();
    fs.inject(FaultPlan::any(Fault::Io).sticky());
    let fork = fs.fork();
    assert_eq!(fork.read_file(&path("a")).unwrap(), b"risked");
    assert_eq!(fork.crash(CrashModel::Synced).read_file(&path("a")).unwrap(), b"");
    fork.remove(&path("a")).unwrap();
    assert_eq!((names(&fs), names(&fork)), (vec!["a".to_owned()], vec![]));
}
