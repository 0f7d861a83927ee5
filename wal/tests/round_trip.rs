//! What was appended is read back: by replay, and by a tail from anywhere.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod log;

use base::{Error, Position};
use log::*;
use proptest::prelude::*;
use std::sync::Arc;
use wal::{Appender, TailReader};

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
    CloseRun,
    Seal,
    Spare,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![
        8 => 0usize..200,
        5 => 200usize..3000,
        1 => (16usize << 10) - 2..(16 << 10) + 2,
        1 => 30_000usize..70_000,
    ];
    let step = prop_oneof![
        20 => len.prop_map(Step::Append),
        3 => Just(Step::Sync),
        1 => Just(Step::CloseRun),
        2 => Just(Step::Seal),
        3 => Just(Step::Spare),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..90)
}

/// Every commit with the position at which it ended.
type Written = Vec<(u64, Vec<u8>, Position)>;

fn tail_from(fs: &Arc<dyn base::fs::Fs>, from: Position, durable: Position) -> Written {
    let mut tail = TailReader::new(Arc::clone(fs), DATABASE, from);
    let mut read = Vec::new();
    while let Some(commit) = tail.next(durable).unwrap() {
        read.push((commit.seqno.raw(), commit.payload.to_vec(), commit.end));
    }
    read
}

fn spare(log: &mut Appender) {
    if log.wants_spare() {
        let spare = log.spare().build().unwrap();
        log.give_spare(spare);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_appended_is_replayed_and_tailed(
        steps in steps(),
        segment_bytes in prop_oneof![Just(SEGMENT_BYTES), Just(160u64 << 10)],
        from in any::<prop::sample::Index>(),
    ) {
        let (_, fs) = disk(1);
        let mut log = create_sized(&fs, 1, None, segment_bytes).unwrap();
        let mut written: Written = Vec::new();
        let mut following = TailReader::new(Arc::clone(&fs), DATABASE, Position { segment: 1, offset: 0 });
        let mut followed = Vec::new();
        for step in steps {
            match step {
                Step::Append(len) => {
                    let seqno = written.len() as u64 + 1;
                    let end = append(&mut log, seqno, len);
                    written.push((seqno, payload(seqno, len), end));
                }
                Step::Sync => { sync(&mut log).unwrap(); }
                Step::CloseRun => log.close_run().unwrap(),
                Step::Seal => { log.seal().unwrap(); }
                Step::Spare => spare(&mut log),
                Step::Reopen => {
                    log.finish().unwrap();
                    let next = segments(fs.as_ref()).last().unwrap() + 1;
                    let scan = scan(fs.as_ref()).unwrap();
                    prop_assert_eq!(&scan.torn, &None);
                    log = create_sized(&fs, next, scan.end(), segment_bytes).unwrap();
                }
            }
            while let Some(commit) = following.next(log.durable()).unwrap() {
                followed.push((commit.seqno.raw(), commit.payload.to_vec(), commit.end));
            }
            let durable = log.durable();
            let below = written.iter().filter(|(_, _, end)| *end <= durable).count();
            prop_assert_eq!(&followed, &written[..below]);
        }
        let end = log.finish().unwrap();

        let scan = scan_promised(fs.as_ref(), end).unwrap();
        prop_assert_eq!(&scan.torn, &None);
        let expected: Commits = written.iter().map(|(seqno, payload, _)| (*seqno, payload.clone())).collect();
        prop_assert_eq!(commits(fs.as_ref(), &scan).unwrap(), expected);
        prop_assert_eq!(scan.last_seqno.raw(), written.len() as u64);
        let log_end = scan.end().unwrap();
        prop_assert_eq!(Position { segment: log_end.number, offset: log_end.end }, end);

        prop_assert_eq!(&tail_from(&fs, Position { segment: 1, offset: 0 }, end), &written);
        if !written.is_empty() {
            let from = from.index(written.len());
            prop_assert_eq!(&tail_from(&fs, written[from].2, end), &written[from + 1..]);
        }
    }
}

#[test]
fn a_log_without_commits_is_empty_and_clean() {
    let (_, fs) = disk(1);
    create(&fs).unwrap().finish().unwrap();
    let scan = scan(fs.as_ref()).unwrap();
    assert_eq!((scan.commits(), scan.torn.as_ref(), scan.leftovers.len()), (0, None, 0));
}

#[test]
fn a_commit_larger_than_a_segment_gets_one_of_its_size() {
    let (_, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    append(&mut log, 1, 10);
    append(&mut log, 2, 5 * SEGMENT_BYTES as usize);
    append(&mut log, 3, 10);
    let end = log.finish().unwrap();
    assert!(end.segment >= 3);
    let scan = scan_promised(fs.as_ref(), end).unwrap();
    let lens: Vec<usize> =
        commits(fs.as_ref(), &scan).unwrap().iter().map(|it| it.1.len()).collect();
    assert_eq!(lens, [10, 5 * SEGMENT_BYTES as usize, 10]);
}

#[test]
fn a_commit_past_the_limit_is_refused_and_harms_nothing() {
    let (_, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    let error = log.append(tick(1), &vec![0; base::frame::PAYLOAD_LEN_MAX + 1]).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }));
    append(&mut log, 1, 10);
}

#[test]
fn segments_are_released_oldest_first_and_only_when_flushed() {
    let (_, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    let mut seqno = 0;
    while log.segments().len() < 4 {
        seqno += 1;
        append(&mut log, seqno, 1000);
    }
    let spans = log.segments();
    assert_eq!(spans.iter().map(|span| span.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(spans[1].first_seqno, spans[0].last_seqno.next());
    assert!(log.release(spans[0].last_seqno.previous(), None).is_empty());
    assert_eq!(log.release(spans[1].last_seqno, Some(2)), [1]);
    assert_eq!(log.release(tick(seqno), None), [2, 3]);
    assert_eq!(log.segments(), &log.segments()[..1], "the growing segment stays");
    // A released segment needs no sync any more.
    for number in [1, 2, 3] {
        fs.remove(&path(number)).unwrap();
    }
    sync(&mut log).unwrap();
}

#[test]
fn a_spare_is_used_by_the_next_roll_and_a_late_one_is_given_back() {
    let (_, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    let mut seqno = 0;
    while !log.wants_spare() {
        seqno += 1;
        append(&mut log, seqno, 1000);
    }
    let builder = log.spare();
    assert!(!log.wants_spare(), "one at a time");
    let spare = builder.build().unwrap();
    log.give_spare(spare);
    assert!(!log.wants_spare());
    while log.end().segment == 1 {
        seqno += 1;
        append(&mut log, seqno, 1000);
    }
    assert_eq!((log.end().segment, segments(fs.as_ref())), (2, vec![1, 2]));

    let late = log.spare().build().unwrap();
    while log.end().segment == 2 {
        seqno += 1;
        append(&mut log, seqno, 1000);
    }
    assert_eq!(log.end().segment, 4);
    log.give_spare(late);
    assert_eq!(log.give_up_spare(), [3]);
    let end = log.finish().unwrap();
    let scan = scan_promised(fs.as_ref(), end).unwrap();
    assert_eq!((scan.commits(), scan.leftovers), (seqno, vec![3]));
}

#[test]
fn the_next_segment_is_told_before_it_is_made_and_can_be_a_small_one() {
    const MIB: u64 = 1 << 20;
    let (_, fs) = disk(1);
    let mut log = create_sized(&fs, 1, None, 8 * MIB).unwrap();
    assert_eq!(log.next_segment(1000), None);
    let fill = |log: &mut Appender, seqno: &mut u64| loop {
        if let Some(next) = log.next_segment(60_000) {
            return (next.holds / MIB, next.takes / MIB, next.least / MIB);
        }
        *seqno += 1;
        append(log, *seqno, 60_000);
    };
    let mut seqno = 0;
    assert_eq!(fill(&mut log, &mut seqno), (2, 2, 1));
    assert_eq!(log.end().segment, 1, "it is right about what fits");
    seqno += 1;
    append(&mut log, seqno, 60_000);
    assert_eq!((log.end().segment, fill(&mut log, &mut seqno)), (2, (4, 4, 1)));
    spare(&mut log);
    assert_eq!(fill(&mut log, &mut seqno), (4, 0, 1));
    log.save_space();
    assert_eq!(fill(&mut log, &mut seqno), (1, 1, 1));
    seqno += 1;
    append(&mut log, seqno, 60_000);
    assert_eq!(log.give_up_spare().len(), 1, "the large spare came to no use");
    assert_eq!(fill(&mut log, &mut seqno), (2, 2, 1));
}

#[test]
fn a_seal_is_written_once_and_only_for_what_is_durable() {
    let (_, fs) = disk(1);
    let mut log = create(&fs).unwrap();
    assert!(!log.seal().unwrap(), "nothing to promise");
    append(&mut log, 1, 10);
    assert!(!log.seal().unwrap(), "nothing durable");
    let durable = sync(&mut log).unwrap();
    assert!(log.seal().unwrap());
    assert!(log.end() > durable);
    sync(&mut log).unwrap();
    assert!(!log.seal().unwrap(), "a seal needs no seal");
    append(&mut log, 2, 10);
    log.close_run().unwrap();
    sync(&mut log).unwrap();
    assert!(log.seal().unwrap());
}
