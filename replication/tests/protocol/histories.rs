//! Seeded histories: writes, cuts, crashes, restores and collection at any moment.

use crate::net::{Net, change};
use replication::memory::{Backup, Change, SyncWhen};
use replication::protocol::Event;

/// What may happen in a history besides writes and cuts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Crashes,
    Restores,
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
                let ms = net.dice.roll() % 400;
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
            _ => {}
        }
    }
    net.nodes.iter().for_each(|node| node.store.set_sync(SyncWhen::Asked));
    net.heal();
    net
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
    for seed in 0..150 {
        let net = history(seed, 2 + (seed % 2) as usize, 0, With::Crashes);
        net.check_fold();
        assert!(
            !net.events.iter().any(|(_, event)| matches!(event, Event::LateWrites(_))),
            "seed {seed}: nothing can be late while all authors are waited for"
        );
    }
}
