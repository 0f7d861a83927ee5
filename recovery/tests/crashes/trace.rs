//! The same seed and the same steps make the same disk: without that, no failure could be found
//! again.

use crate::story::Story;
use crate::workloads;

#[test]
fn every_workload_leaves_the_same_trace_and_the_same_disk_each_time() {
    let run = |seed| {
        workloads::all().into_iter().map(move |workload| {
            let story = Story::record(&workload, seed);
            let digests = story.scenes.iter().map(|scene| scene.moment.kill(7).digest());
            (workload.name, story.fs.trace(), digests.collect::<Vec<_>>())
        })
    };
    let mut changes = 0;
    for (first, second) in run(5).zip(run(5)) {
        assert_eq!(first.0, second.0);
        assert_eq!(first.1, second.1, "{}: the traces differ", first.0);
        assert_eq!(first.2, second.2, "{}: the disks differ", first.0);
        changes += first.2.len();
    }
    for (first, second) in run(5).zip(run(6)) {
        assert_ne!(first.1, second.1, "{}: another seed makes another trace", first.0);
    }
    println!("campaign trace: {changes} moments, the same in two runs");
    assert!(changes > 5_000);
}
