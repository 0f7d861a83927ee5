//! Versions and jobs as text.
//!
//! A version has a line a run, newest first: its level, then its tables as `id:first-last` and what
//! is not usual about them: `*n` entries (else 100), `~n` of them hide older ones, `xn` are
//! tombstones, `rn` range deletes, `e` all expire at 50 ms, `bn` bytes (else 1000), `@n` the newest
//! is of that millisecond, `!` ends in another keyspace.

use super::*;
use base::{KeyspaceId, ScopeId, Tick};
use proptest::prelude::*;
use sstable::TableKey;
use sstable::manifest::{Added, Edit};

const PLAIN: fn(SpaceId) -> bool = |_| true;
const COMPRESSED: fn(SpaceId) -> bool = |_| false;

fn space(number: u32) -> SpaceId {
    SpaceId::new(ScopeId::MAIN, KeyspaceId(number))
}

fn table(text: &str) -> TableMeta {
    let (id, rest) = text.split_once(':').unwrap();
    // Keys have one letter, or end in z.
    let keys_end = rest.find('-').unwrap() + 2;
    let unusual = |c: char| !c.is_ascii_lowercase() || "xreb".contains(c);
    let keys_end = keys_end + rest[keys_end..].find(unusual).unwrap_or(rest.len() - keys_end);
    let (range, mut rest) = rest.split_at(keys_end);
    let (first, last) = range.split_once('-').unwrap();
    let id = id.parse().unwrap();
    let mut meta = TableMeta {
        id,
        len: 1000,
        root: [0; 32],
        scope: ScopeId::MAIN,
        smallest: TableKey::new(space(1), first.as_bytes()),
        largest: TableKey::new(space(1), last.as_bytes()),
        entries: 100,
        tombstones: 0,
        expiring: 0,
        range_deletes: 0,
        raw_bytes: 1000,
        seqno_min: Tick::from_ms(1),
        seqno_max: Tick::from_ms(1),
        tombstone_stamp_max: Tick::ZERO,
        expires_at_max_ms: 0,
        generation: 1,
        shadowed: 0,
        seqno_override: None,
        local: base::OriginNumber::LOCAL,
        origins: Box::default(),
        source: None,
    };
    while let Some(what) = rest.chars().next() {
        let digits = rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
        let (number, later) = rest[1..].split_at(digits);
        let number = number.parse().unwrap_or(0);
        match what {
            '*' => meta.entries = number,
            '~' => meta.shadowed = number,
            'x' => meta.tombstones = number,
            'r' => meta.range_deletes = number,
            'e' => (meta.expiring, meta.expires_at_max_ms) = (meta.entries, 50),
            'b' => meta.len = number,
            '@' => meta.seqno_max = Tick::from_ms(number),
            _ => meta.largest.space = space(2),
        }
        rest = later;
    }
    meta
}

fn version(text: &str) -> Version {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let orders = (1..=lines.len() as u64).rev();
    let mut added = Vec::new();
    for (line, order) in lines.into_iter().zip(orders) {
        let mut words = line.split_whitespace();
        let level = words.next().unwrap().strip_prefix('L').unwrap().parse().unwrap();
        added.extend(words.map(|text| Added { order, level, meta: Arc::new(table(text)) }));
    }
    Version::default().apply(&Edit { added, ..Edit::default() }).unwrap()
}

fn told(job: Option<Job>) -> String {
    let Some(job) = job else { return "nothing".to_owned() };
    let run = |run: &Vec<Arc<TableMeta>>| {
        run.iter().map(|meta| meta.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    let inputs: Vec<String> = job.inputs.iter().map(run).collect();
    let action = if job.action == Action::Move { "move" } else { "merge" };
    let bottom = if job.bottom == Bottom::Reached { "" } else { ", older below" };
    format!("{action} {} to L{} as run {}{bottom}", inputs.join(" | "), job.level, job.order)
}

fn limits() -> Limits {
    Limits { upper_runs_max: 4, now_ms: 100, ..Limits::default() }
}

fn picked(text: &str, load: Load) -> String {
    told(pick(&version(text), &limits(), load, &COMPRESSED))
}

#[test]
fn nothing_is_due_where_nothing_is_to_gain() {
    for load in [Load::Busy, Load::Idle] {
        assert_eq!(picked("", load), "nothing");
        assert_eq!(picked("L6 1:a-c 2:d-f", load), "nothing");
        assert_eq!(picked("L0 2:a-c*5b20\nL6 1:a-c", load), "nothing");
    }
    assert_eq!(picked("L0 3:a-c\nL0 2:a-c\nL0 1:a-c", Load::Busy), "nothing");
}

#[test]
fn an_idle_database_is_tidied_up() {
    assert_eq!(picked("L0 1:a-c", Load::Idle), "merge 1 to L6 as run 1");
    assert_eq!(picked("L0 2:a-c\nL6 1:a-c", Load::Idle), "merge 2 | 1 to L6 as run 1");
    // Little new data, but tombstones: what they hide is space.
    let tombstones = "L0 2:a-c*5b20x1\nL6 1:a-c";
    assert_eq!(picked(tombstones, Load::Idle), "merge 2 | 1 to L6 as run 1");
    assert_eq!(picked(tombstones, Load::Busy), "nothing");
}

#[test]
fn too_many_upper_runs_of_similar_size_become_one() {
    let text = "
        L0 8:a-z b10
        L0 7:a-z b10
        L0 6:a-z b15
        L1 5:a-z b300
        L6 1:a-m b9000 2:n-z b9000"
        .replace(" b", "b");
    assert_eq!(picked(&text, Load::Busy), "merge 8 | 7 | 6 to L1 as run 3, older below");
    // The newest two at least.
    let text = "
        L0 8:a-zb10
        L1 7:a-zb100
        L2 6:a-zb200
        L2 5:a-zb300
        L6 1:a-zb9000";
    assert_eq!(picked(text, Load::Busy), "merge 8 | 7 to L1 as run 4, older below");
}

#[test]
fn upper_runs_that_weigh_half_of_the_last_go_into_it() {
    let text = "
        L0 8:a-bb300
        L0 7:a-bb300
        L0 6:a-bb300
        L0 5:a-bb300
        L6 1:a-cb1000 2:d-fb1000";
    assert_eq!(picked(text, Load::Busy), "merge 8 | 7 | 6 | 5 | 1 to L6 as run 1");
}

#[test]
fn garbage_beyond_its_limit_is_collected_even_under_load() {
    let below = "L0 3:b-c*20~15b20\nL6 1:a-d*60 2:e-h*40";
    assert_eq!(picked(below, Load::Busy), "nothing");
    let above = "L0 3:b-c*20~16b20\nL6 1:a-d*60 2:e-h*40";
    assert_eq!(picked(above, Load::Busy), "merge 3 | 1 to L6 as run 1");
    let tombstones = "L0 3:b-c*20x16b20\nL6 1:a-d*60 2:e-h*40";
    assert_eq!(picked(tombstones, Load::Busy), "merge 3 | 1 to L6 as run 1");
}

#[test]
fn only_tables_that_overlap_are_rewritten_unless_a_range_delete_may_reach_them() {
    let text = "L0 5:d-e~90\nL6 1:a-c 2:d-f 3:g-i";
    assert_eq!(picked(text, Load::Busy), "merge 5 | 2 to L6 as run 1");
    let text = "L0 5:d-e~90r1\nL6 1:a-c 2:d-f 3:g-i";
    assert_eq!(picked(text, Load::Busy), "merge 5 | 1 2 3 to L6 as run 1");
}

/// The output may be one table from c to x: a table between would overlap it.
#[test]
fn tables_of_the_last_run_between_two_inputs_are_merged_too() {
    let text = "L0 6:c-d\nL0 5:x-y\nL6 1:a-b 2:m-n 3:z-zz";
    assert_eq!(picked(text, Load::Idle), "merge 6 | 5 | 2 to L6 as run 1");
}

#[test]
fn what_overlaps_nothing_is_moved_as_it_is() {
    let moved = |text: &str| told(pick(&version(text), &limits(), Load::Busy, &PLAIN));
    assert_eq!(moved("L0 1:a-c"), "move 1 to L6 as run 1");
    assert_eq!(moved("L0 3:a-f\nL0 2:d-f\nL6 1:a-c"), "move 2 to L6 as run 1");
    assert_eq!(picked("L0 2:d-f*10b10\nL6 1:a-c", Load::Busy), "nothing", "it is to be compressed");
    for text in [
        "L0 2:c-f\nL6 1:a-c",
        "L0 2:d-fx1\nL6 1:a-c",
        "L0 2:d-fr1\nL6 1:a-c",
        "L0 2:d-fe\nL6 1:a-c",
        "L0 2:d-f!\nL6 1:a-c",
        // The newer run does not pass the older one.
        "L0 3:d-f\nL0 2:a-c\nL6 1:a-c",
    ] {
        assert!(!moved(text).starts_with("move"), "{text}: {}", moved(text));
    }
}

#[test]
fn a_table_of_the_last_run_that_has_ended_is_dropped() {
    assert_eq!(picked("L6 1:a-c 2:d-fe 3:g-i", Load::Busy), "merge 2 to L6 as run 1");
    let early = Limits { now_ms: 49, ..limits() };
    let version = version("L6 1:a-c 2:d-fe@30");
    assert_eq!(told(pick(&version, &early, Load::Busy, &COMPRESSED)), "nothing");
    // While history keeps its entries, rewriting it would change nothing, again and again.
    let kept = Limits { horizon: Tick::from_ms(20), ..limits() };
    assert_eq!(told(pick(&version, &kept, Load::Busy, &COMPRESSED)), "nothing");
    let over = Limits { horizon: Tick::from_ms(30), ..limits() };
    assert_eq!(told(pick(&version, &over, Load::Busy, &COMPRESSED)), "merge 2 to L6 as run 1");
}

#[test]
fn everything_is_everything() {
    let all = |text: &str| told(everything(&version(text)));
    assert_eq!(all(""), "nothing");
    assert_eq!(all("L6 1:a-c 2:d-f"), "merge 1 2 to L6 as run 1");
    assert_eq!(all("L0 4:a-z\nL2 3:b-c\nL6 1:a-c 2:d-f"), "merge 4 | 3 | 1 2 to L6 as run 1");
}

/// The output stands on the same side of every other table as its inputs did, and what it no longer
/// says about older entries is said about none.
fn check_order(version: &Version, job: &Job) {
    let is_input = |id: u64| job.inputs.iter().flatten().any(|meta| meta.id == id);
    let order_of = |id: u64| {
        let mut runs = version.runs().iter();
        runs.find(|run| run.tables.iter().any(|meta| meta.id == id)).unwrap().order
    };
    for input in job.inputs.iter().flatten() {
        let before = order_of(input.id);
        for other in version.tables().filter(|other| !is_input(other.id)) {
            let order = order_of(other.id);
            // A range delete hides by its stamp, wherever it stands.
            if overlaps(input, other) {
                assert_ne!(order, job.order, "the output overlaps its run");
                assert_eq!(order > before, order > job.order, "{} passes {}", input.id, other.id);
            }
            if overlaps(input, other) || input.range_deletes > 0 {
                assert!(job.bottom == Bottom::Below || order > before, "{} is hidden", other.id);
            }
        }
    }
}

/// The version when `job` is done, with its output as one table.
fn done(version: &Version, job: &Job, id: u64) -> Version {
    let removed = job.inputs.iter().flatten().map(|meta| meta.id).collect();
    let mut metas: Vec<TableMeta> =
        job.inputs.iter().flatten().map(|meta| (**meta).clone()).collect();
    if job.action == Action::Rewrite {
        let smallest = metas.iter().map(|meta| meta.smallest.clone()).min().unwrap();
        let largest = metas.iter().map(|meta| meta.largest.clone()).max().unwrap();
        let len = metas.iter().map(|meta| meta.len).sum();
        metas = vec![TableMeta { id, len, smallest, largest, ..table("0:a-b") }];
        if job.bottom == Bottom::Below {
            metas[0].range_deletes = 1;
        }
    }
    let (order, level) = (job.order, job.level);
    let added = metas.into_iter().map(|meta| Added { order, level, meta: Arc::new(meta) });
    version.apply(&Edit { added: added.collect(), removed, ..Edit::default() }).unwrap()
}

fn any_run() -> impl Strategy<Value = String> {
    let table = (
        0u8..20,
        0u8..6,
        prop_oneof![5 => Just(""), 1 => Just("r1"), 1 => Just("x9"), 1 => Just("~60")],
        1u32..5000,
    );
    (0u8..4, table).prop_map(|(level, (first, more, what, bytes))| {
        let (first, last) = ((b'a' + first) as char, (b'a' + first + more) as char);
        format!("L{level} #:{first}-{last}b{bytes}{what}")
    })
}

proptest! {
    /// Whatever the version: every job keeps newer above older, and there is an end to jobs.
    #[test]
    fn jobs_keep_the_order_and_come_to_an_end(
        runs in proptest::collection::vec(any_run(), 0..9), is_plain: bool,
        last in prop_oneof![
            Just(""), Just("L6 #:a-f #:g-m #:n-z"), Just("L6 #:a-fr1 #:g-m #:n-z"),
            Just("L6 #:a-fe #:g-mer1 #:n-zr1")
        ]
    ) {
        let mut text = runs.join("\n");
        text = text + "\n" + last;
        for id in 1.. {
            if !text.contains('#') {
                break;
            }
            text = text.replacen('#', &id.to_string(), 1);
        }
        let mut version = version(&text);
        let is_plain = |_: SpaceId| is_plain;
        let mut steps = 0;
        while let Some(job) = pick(&version, &limits(), Load::Idle, &is_plain) {
            check_order(&version, &job);
            steps += 1;
            prop_assert!(steps < 40, "{text}");
            version = done(&version, &job, 100 + steps);
        }
        prop_assert!(version.runs().len() <= 3);
    }
}

#[test]
fn tombstones_are_looked_for_where_they_can_go_alone() {
    let version =
        version("L0 5:a-c x1\nL6 1:a-c x1 2:d-f 3:g-ix9 4:j-k x1r1".replace(" x", "x").as_str());
    let found: Vec<u64> = with_tombstones(&version).map(|table| table.id).collect();
    assert_eq!(found, [1, 3]);
    let table = with_tombstones(&version).last().unwrap();
    assert_eq!(told(alone(&version, table)), "merge 3 to L6 as run 1");
}
