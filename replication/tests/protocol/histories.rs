//! Seeded histories: writes, cuts, crashes, restores and collection at any moment.

use crate::net::{Net, SCOPE, change, id};
use base::Tick;
use replication::memory::{Backup, Change, SyncWhen};
use replication::protocol::{Event, Tier};
use replication::roster::{Member, Role};
use replication::store::Store;

/// What may happen in a history besides writes and cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Crashes,
    Restores,
    /// One author is shut out and let in again.
    Fences,
}

fn history(seed: u64, authors: usize, observers: usize, with: With) -> Net {
    let mut net = Net::new(seed, authors, observers);
    net.tweak = |config| {
        config.window_shipments = 4;
        config.shipment_len = 200;
    };
    net.nodes.iter().for_each(|node| node.store.set_sync(SyncWhen::Told));
    let nodes = authors + observers;
    let mut backups: Vec<Vec<Backup>> = vec![Vec::new(); nodes];
    let mut value = 0;
    for _ in 0..1_500 {
        let node = net.dice.below(nodes);
        match net.dice.below(60) {
            0..40 => drop(net.step()),
            40..46 => {
                value += 1;
                let writes = writes(&mut net, value);
                net.write(node, writes);
            }
            46..49 => {
                let other = net.dice.below(nodes);
                net.connect(node, other);
            }
            49 => {
                let other = net.dice.below(nodes);
                net.cut(node, other);
            }
            50..54 => net.nodes[node].store.sync(),
            54..56 => {
                let ms = net.dice.roll() % if with == With::Crashes { 400 } else { 3_000 };
                net.pass(ms);
            }
            56 => net.nodes[node].store.collect(),
            57 if net.dice.one_in(4) => {
                let keep = net.dice.below(4);
                net.nodes[node].store.trim_log(keep);
            }
            58 if net.dice.one_in(3) => net.crash(node),
            59 if with == With::Restores => match net.dice.below(3) {
                0 => backups[node].push(net.nodes[node].store.backup()),
                _ if net.dice.one_in(4) => {
                    let many = backups[node].len();
                    if many > 0 {
                        let backup = backups[node][net.dice.below(many)].clone();
                        net.restore(node, &backup);
                        net.nodes[node].store.set_sync(SyncWhen::Told);
                    }
                }
                _ => {}
            },
            59 if with == With::Fences && net.dice.one_in(3) => fence(&mut net, nodes - 1),
            _ => {}
        }
    }
    if net.nodes[0].group.role_of(id(nodes - 1)) == Some(Role::Deprecated) {
        fence(&mut net, nodes - 1);
    }
    net.nodes.iter().for_each(|node| node.store.set_sync(SyncWhen::Asked));
    net.heal();
    net
}

/// The operator at the first node shuts `node` out, or lets it in again.
fn fence(net: &mut Net, node: usize) {
    let operator = &net.nodes[0];
    let is_out = operator.group.role_of(id(node)) == Some(Role::Deprecated);
    let role = if is_out { Role::Author } else { Role::Deprecated };
    // A node that is closed for a rejoin can not note it now.
    let noted = operator.group.set_member(&operator.store, id(node), Member::new(role)).is_ok();
    if noted && !is_out && net.dice.one_in(2) {
        live_on_without(net, node);
    }
}

/// The others delete, agree, and forget, while `node` writes for itself.
fn live_on_without(net: &mut Net, node: usize) {
    net.cut_all(node);
    for value in 0..3 {
        let key = format!("{}", net.dice.below(6));
        net.put(node, &key, &format!("alone {value}"));
        net.pass(1);
    }
    net.nodes[node].store.sync();
    net.connect(0, 1);
    net.run(2_000);
    for key in 0..6 {
        net.delete(0, &format!("{key}"));
    }
    net.run(3_000);
    net.nodes.iter().take(node).for_each(|node| node.store.collect());
}

fn writes(net: &mut Net, value: u64) -> Vec<replication::memory::Write> {
    let key = format!("{}", net.dice.below(6));
    match net.dice.below(10) {
        0..5 => vec![change("k", &key, Change::Put(format!("{value}").into_bytes()))],
        5..8 => vec![change("k", &key, Change::Delete)],
        8 => vec![change("k", &key, Change::DeleteTo(Vec::new()))],
        _ => vec![
            change("k", &key, Change::Put(format!("{value} a").into_bytes())),
            change("k", "all", Change::Put(format!("{value} b").into_bytes())),
        ],
    }
}

#[test]
fn authors_converge_to_the_fold_of_all_writes_whatever_happens() {
    let mut seen = Seen::default();
    for seed in 0..150 {
        let net = history(seed, 2 + (seed % 2) as usize, 0, With::Crashes);
        seen.count(&net);
        net.check_fold();
        assert!(
            !net.events.iter().any(|(_, event)| matches!(event, Event::LateWrites(_))),
            "seed {seed}: nothing can be late while all authors are waited for"
        );
    }
    println!("{seen:?}");
    assert!(seen.dropped > 0 && seen.deltas > 0, "{seen:?}");
}

/// How often something happened that a test is about.
#[derive(Debug, Default)]
struct Seen {
    rejoins: usize,
    deltas: usize,
    tables: usize,
    late: usize,
    dropped: usize,
}

impl Seen {
    fn count(&mut self, net: &Net) {
        for (_, event) in &net.events {
            match event {
                Event::Installed(Tier::Rejoin) => self.rejoins += 1,
                Event::Installed(Tier::Delta) => self.deltas += 1,
                Event::Installed(Tier::Tables) => self.tables += 1,
                Event::LateWrites(_) => self.late += 1,
                _ => {}
            }
        }
        let has_dropped = |store: &dyn Store| store.dropped(SCOPE) > Tick::ZERO;
        self.dropped += net.nodes.iter().filter(|node| has_dropped(&node.store)).count();
    }
}

/// Readers come and go as they like, and hold nothing.
#[test]
fn observers_converge_too_and_never_write() {
    for seed in 1_000..1_060 {
        let net = history(seed, 2, 1, With::Crashes);
        net.check_fold();
        let reader = net.nodes[2].store.origin();
        assert_eq!(net.nodes[0].store.applied(SCOPE).get(reader), Tick::ZERO, "seed {seed}");
    }
}

/// What a node wrote while it was shut out is merged, or if its deletion may be forgotten, in
/// quarantine; what others deleted meanwhile stays deleted.
#[test]
fn an_author_that_is_shut_out_and_let_in_again_brings_nothing_back() {
    let mut seen = Seen::default();
    for seed in 3_000..3_100 {
        let net = history(seed, 3, 0, With::Fences);
        net.check_fold();
        seen.count(&net);
    }
    println!("{seen:?}");
    assert!(seen.rejoins > 0 && seen.late > 0 && seen.dropped > 0, "{seen:?}");
}

/// A restore loses what no other node has, and nothing else; what was deleted stays deleted.
#[test]
fn nodes_that_are_restored_from_old_backups_converge() {
    let mut seen = Seen::default();
    for seed in 2_000..2_100 {
        let net = history(seed, 2 + (seed % 2) as usize, 0, With::Restores);
        net.check_fold();
        seen.count(&net);
    }
    println!("{seen:?}");
    assert!(seen.rejoins > 0 && seen.deltas > 0, "{seen:?}");
}

/// `cargo test -p esker-replication --test protocol -- --ignored campaign`
#[test]
#[ignore = "the long profile"]
fn campaign_of_histories() {
    let mut seen = Seen::default();
    for seed in 10_000..13_000 {
        let authors = 2 + (seed % 2) as usize;
        for (authors, observers, with) in [
            (authors, 0, With::Crashes),
            (2, 1, With::Crashes),
            (authors, 0, With::Restores),
            (2, 1, With::Restores),
            (3, 0, With::Fences),
        ] {
            println!("seed {seed}, {authors} authors, {observers} observers, with {with:?}");
            let net = history(seed, authors, observers, with);
            net.check_fold();
            seen.count(&net);
        }
    }
    println!("{seen:?}");
}
