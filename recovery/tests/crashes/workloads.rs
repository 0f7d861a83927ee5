//! The workloads: each does one thing a lot, and some do everything at random.

use crate::step::{PERIODIC, Put, Step, Workload, delete, no_value, put, put_for, put_long, value};
use base::fs::CrashModel;
use engine::{Background, Options, SyncMode};
use std::time::Duration;

use Step::{
    Checkpoint, Compact, Crash, Create, DeleteRange, Drop, Flush, Hold, Ingest, Kill, Release,
    Reopen, Settle, Transaction, Wait, Write,
};
use SyncMode::{Async, Sync};

/// The smallest sizes, and no background threads.
pub(crate) fn small() -> Options {
    Options {
        memtable_bytes: 64 << 10,
        memory_bytes: 2 << 20,
        block_bytes: 512,
        table_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        background: Background::Off,
        ..Options::default()
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Workload> {
    let mut all: Vec<Workload> = PLAIN
        .iter()
        .map(|(name, steps)| Workload { name, options: small(), steps: steps() })
        .collect();
    let history = Options { history: Duration::from_secs(10), ..small() };
    all.push(Workload { name: "history", options: history, steps: history_steps() });
    let retaining = Options { log_retention_bytes: 256 << 10, ..small() };
    all.push(Workload { name: "log retention", options: retaining, steps: flushes() });
    for (name, seed) in [("random 1", 1), ("random 2", 2), ("random 3", 3), ("random 4", 4)] {
        all.push(Workload { name, options: small(), steps: random(seed) });
    }
    all
}

type Named = (&'static str, fn() -> Vec<Step>);

const PLAIN: [Named; 26] = [
    ("plain puts", plain_puts),
    ("puts without sync", unsynced_puts),
    ("periodic puts", periodic_puts),
    ("all sync modes", all_modes),
    ("overwrites", overwrites),
    ("deletes", deletes),
    ("batches over keyspaces", batches),
    ("range deletes", range_deletes),
    ("expiring entries", expiring),
    ("flushes", flushes),
    ("compactions", compactions),
    ("reopens after a close", reopens),
    ("reopens after a kill", kills),
    ("keyspaces come and go", keyspaces),
    ("ingest", ingests),
    ("snapshots over compactions", snapshots),
    ("transactions", transactions),
    ("large values", large_values),
    ("values larger than a segment", huge_values),
    ("checkpoints", checkpoints),
    ("many segments", segments),
    ("seals", seals),
    ("torn tails, then more writes", torn_tails),
    ("crash after crash", crashes),
    ("full memtables", full_memtables),
    ("nothing at all", Vec::new),
];

/// The sync mode of write number `number` where modes are mixed.
fn mode(number: u32) -> SyncMode {
    [Async, Sync, PERIODIC, Async, Async, PERIODIC, Sync][number as usize % 7]
}

fn plain_puts() -> Vec<Step> {
    let puts = (0..24).map(|number| put("a", number, Sync));
    std::iter::once(Create("a")).chain(puts).collect()
}

fn unsynced_puts() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for number in 0..60 {
        steps.push(put("a", number, Async));
        if number % 25 == 24 {
            steps.push(Step::Sync);
        }
    }
    steps
}

fn periodic_puts() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for number in 0..40 {
        steps.extend([put("a", number % 30, PERIODIC), Wait(7)]);
        if number % 13 == 12 {
            steps.push(Step::Sync);
        }
    }
    steps
}

fn all_modes() -> Vec<Step> {
    let puts = (0..50).map(|number| put("a", number % 20, mode(number)));
    std::iter::once(Create("a")).chain(puts).collect()
}

fn overwrites() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for number in 0..36 {
        steps.push(put("a", number % 3, mode(number)));
        if number == 20 {
            steps.push(Flush);
        }
    }
    steps
}

fn deletes() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for number in 0..12 {
        steps.push(put("a", number, mode(number)));
        steps.push(delete("a", number / 2, mode(number + 3)));
        if number % 4 == 3 {
            steps.extend([put("a", number / 2, Async), if number == 7 { Compact } else { Flush }]);
        }
    }
    steps.push(Compact);
    steps
}

fn batches() -> Vec<Step> {
    let mut steps = vec![Create("a"), Create("b"), Create("L")];
    for number in 0..20 {
        let large = if number % 6 == 5 { 20_000 } else { 50 };
        let mut puts = vec![value("a", number % 5, large), value("L", number % 5, 10)];
        puts.push(match number % 3 {
            2 => no_value("b", number % 4),
            _ => value("b", number % 4, 600),
        });
        steps.push(Write(puts, if number % 4 == 3 { Sync } else { Async }));
    }
    steps
}

fn range_deletes() -> Vec<Step> {
    let mut steps = vec![Create("a"), Create("b")];
    for round in 0..5 {
        steps.extend((0..5).map(|number| put("a", number * 3 + round, Async)));
        steps.push(DeleteRange("a", round..round + 6, mode(round)));
        steps.push(put("a", round + 2, mode(round + 1)));
        steps.push(put("b", round, Async));
        steps.push([Flush, Step::Sync, Compact, Flush, Step::Sync][round as usize].clone());
    }
    steps.extend([DeleteRange("b", 0..100, Async), Compact]);
    steps
}

fn expiring() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for number in 0..18 {
        let lives_ms = [500, 5_000, 60_000][number as usize % 3];
        steps.push(put_for("a", number % 11, lives_ms, mode(number)));
        steps.push(Wait(333));
        match number {
            5 => steps.push(Flush),
            9 => steps.push(put("a", 3, Sync)),
            12 => steps.push(Compact),
            _ => {}
        }
    }
    steps.extend([Wait(70_000), Compact, put("a", 1, Sync)]);
    steps
}

fn flushes() -> Vec<Step> {
    let mut steps = vec![Create("a"), Create("L")];
    for round in 0..5 {
        steps.extend((0..5).map(|number| put("a", number * 2 + round, mode(number))));
        steps.extend([put("L", round, Async), Flush]);
    }
    steps
}

fn compactions() -> Vec<Step> {
    let mut steps = vec![Create("a"), Create("b")];
    for round in 0..4 {
        steps.extend((0..6).map(|number| put_long("a", number * 2 + round, 900, Async)));
        steps.push(put("b", round, Async));
        steps.extend([Flush, delete("a", round * 2, Async)]);
        if round % 2 == 1 {
            steps.push(Compact);
        }
    }
    steps
}

fn reopens() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for round in 0..4 {
        steps.extend((0..4).map(|number| put("a", number + round, mode(number))));
        steps.push(Reopen);
    }
    steps.push(Reopen);
    steps
}

fn kills() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for round in 0..4 {
        steps.extend((0..5).map(|number| put("a", number + round, mode(number))));
        steps.push(Kill);
    }
    steps.extend([Kill, put("a", 1, Sync)]);
    steps
}

fn keyspaces() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for round in 0..4 {
        steps.extend([put("a", round, Async), Create("b"), put("b", 1, Async)]);
        steps.push(put("b", 2, if round % 2 == 0 { Sync } else { Async }));
        if round == 1 {
            steps.push(Flush);
        }
        steps.extend([Drop("b"), put("a", 10 + round, Sync)]);
        if round == 2 {
            steps.extend([Compact, Reopen]);
        }
    }
    steps.extend([Create("b"), Create("L"), put("L", 1, Async)]);
    steps
}

fn ingests() -> Vec<Step> {
    let mut steps = vec![Create("a"), Create("b")];
    for round in 0..3 {
        steps.extend([put("a", 5, Async), put("b", round, Async), Ingest("a", 0..40)]);
        steps.extend([put("a", 6, Async), DeleteRange("a", 10..20, Async)]);
        steps.extend([Ingest("a", 15..18), put("a", 7, Sync)]);
    }
    steps.push(Compact);
    steps
}

fn snapshots() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for round in 0..3 {
        steps.extend((0..6).map(|number| put("a", number, Async)));
        steps.push(Hold);
        steps.extend((0..4).map(|number| put("a", number + round, mode(number))));
        steps.extend([DeleteRange("a", 3..5, Async), Flush, delete("a", 1, Sync), Compact]);
        steps.extend([Release, Compact]);
    }
    steps
}

fn transactions() -> Vec<Step> {
    let mut steps = vec![Create("a"), Create("b")];
    for number in 0..16 {
        let puts = vec![
            value("a", number % 5, 30),
            value("b", number % 3, 30),
            if number % 4 == 3 { no_value("a", number % 2) } else { value("b", 9, 700) },
        ];
        steps.push(Transaction(puts, mode(number)));
        match number {
            6 => steps.push(Flush),
            11 => steps.push(Reopen),
            _ => {}
        }
    }
    steps
}

fn large_values() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for number in 0..10 {
        steps.push(put_long("a", number % 4, 16_000 + 900 * number as usize, mode(number)));
        steps.push(put("a", 10 + number, mode(number + 2)));
    }
    steps
}

fn huge_values() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for number in 0..4 {
        steps.extend([put("a", 9, Async), put_long("a", number % 2, 70_000, mode(number))]);
        steps.push(put("a", 10 + number, Sync));
    }
    steps.push(put_long("a", 5, 200_000, Async));
    steps
}

fn checkpoints() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for round in 0..3 {
        steps.extend((0..4).map(|number| put("a", number + round, mode(number))));
        steps.extend([Checkpoint, put("a", 1, Async)]);
        steps.push(if round == 1 { Compact } else { Flush });
    }
    steps
}

fn segments() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for number in 0..60 {
        steps.push(put_long("a", number % 12, 9_000, if number % 9 == 8 { Sync } else { Async }));
    }
    steps
}

fn seals() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for round in 0..7 {
        steps.extend((0..3).map(|number| put("a", number + round, mode(number + round))));
        steps.push(Settle);
    }
    steps
}

fn torn_tails() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    let models = [CrashModel::Prefix, CrashModel::Sectors, CrashModel::Garbage];
    for (round, model) in (0..).zip(models) {
        steps.extend((0..3).map(|number| put("a", number + round, Sync)));
        steps.extend((0..8).map(|number| put_long("a", number + round, 700, Async)));
        steps.push(Crash(model));
    }
    steps.extend((0..4).map(|number| put("a", number, mode(number))));
    steps
}

fn crashes() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for (round, model) in (0..).zip(CrashModel::ALL) {
        // A lie may cost the keyspace itself.
        let model = if model == CrashModel::SyncLied { CrashModel::Synced } else { model };
        steps.extend([put("a", round, Sync), put("a", round + 1, Async), Crash(model)]);
        if round % 3 == 2 {
            steps.extend([put("a", 20, Async), Flush, put("a", 21, Async), Compact]);
        }
    }
    steps
}

fn full_memtables() -> Vec<Step> {
    let mut steps = vec![Create("a"), Create("b")];
    for number in 0..50 {
        let keyspace = if number % 3 == 0 { "b" } else { "a" };
        steps.push(put_long(keyspace, number % 25, 6_000, mode(number)));
    }
    steps
}

fn history_steps() -> Vec<Step> {
    let mut steps = vec![Create("a")];
    for round in 0..5 {
        steps.extend((0..4).map(|number| put("a", number, mode(number))));
        steps.extend([Wait(4_000), delete("a", round % 4, Async)]);
        steps.push(if round % 2 == 0 { Flush } else { Compact });
    }
    steps.extend([Reopen, put("a", 1, Sync)]);
    steps
}

/// Forty steps of all kinds.
fn random(seed: u64) -> Vec<Step> {
    let mut state = seed;
    let mut below = move |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % limit) as u32
    };
    let mut steps = vec![Create("a"), Create("b"), Create("L")];
    for _ in 0..40 {
        let keyspace = ["a", "b", "L"][below(3) as usize];
        let (key, sync) = (below(12), mode(below(7)));
        steps.push(match below(24) {
            0..=8 => put_long(keyspace, key, 1 << below(13), sync),
            9..=11 => delete(keyspace, key, sync),
            12 => put_for(keyspace, key, u64::from(below(3000)) + 1, sync),
            13 => DeleteRange(keyspace, key..key + 4, sync),
            14 => Write(some_puts(&mut below), sync),
            15 => Transaction(some_puts(&mut below), sync),
            16 => Ingest(keyspace, key..key + 9),
            17 => Flush,
            18 => Compact,
            19 => Settle,
            20 => Reopen,
            21 => Kill,
            22 => Crash(CrashModel::ALL[below(6) as usize]),
            _ => Wait(u64::from(below(2000))),
        });
    }
    steps
}

fn some_puts(below: &mut impl FnMut(u64) -> u32) -> Vec<Put> {
    let mut puts = Vec::new();
    for keyspace in ["a", "b", "L"] {
        puts.push(value(keyspace, below(12), 60));
        puts.push(no_value(keyspace, 12 + below(4)));
    }
    puts
}
