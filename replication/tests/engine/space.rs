//! A peer sends more than the disk has room for: the session ends, and users do not notice.

use crate::pair::{Pair, small};
use crate::parts::noise;
use base::fs::SimFs;
use engine::{Error, KeyspaceOptions, Scope, Status};
use replication::engine_store::EngineStore;
use replication::link::Bell;
use replication::protocol::{Event, Tier};
use replication::{ProtocolError, Remedy};

const PLENTY: u64 = 1 << 40;

fn tables(fs: &SimFs) -> usize {
    fs.files().iter().filter(|path| path.as_str().starts_with("tables/")).count()
}

/// Tables are refused when they are announced, a delta once the rest of the disk is users'. Once there is
/// space the next session brings it all.
#[test]
fn state_that_does_not_fit_ends_the_session_with_its_error() {
    for tier in [Tier::Tables, Tier::Delta] {
        let mut pair = Pair::new(1, &small());
        let db = pair.nodes[0].db.clone();
        pair.nodes[0].store = EngineStore::new(db, &Bell::default()).far_behind(64 << 10);
        let local = KeyspaceOptions { scope: Scope::Local, ..KeyspaceOptions::default() };
        let own = pair.nodes[1].db.keyspace("own", local).unwrap();
        if tier == Tier::Delta {
            pair.keyspace(1, "k").put("of the other", "1").unwrap();
            pair.settle();
            pair.nodes.iter_mut().for_each(|node| node.disconnect());
        }
        for number in 0..3000u32 {
            let value = noise(u64::from(number), 1000);
            pair.keyspace(0, "k").put(number.to_be_bytes(), value).unwrap();
        }
        pair.nodes[0].db.flush().unwrap();
        let fs = pair.nodes[1].fs.clone();
        fs.set_free(2 << 20);
        let before = tables(&fs);
        pair.events.clear();

        // After two deltas that broke off the log follows, whose commits stay.
        let ends = |pair: &Pair| tier == Tier::Delta && !pair.failures.is_empty();
        (0..120).for_each(|_| {
            if !ends(&pair) {
                pair.run(25)
            }
        });

        assert_eq!(pair.events.contains(&(1, Event::Chose(tier))), tier == Tier::Delta);
        assert!(!pair.failures.is_empty() && !pair.events.contains(&(1, Event::Installed(tier))));
        for (node, error) in &pair.failures {
            let is_full = matches!(error, ProtocolError::Store(Error::DiskFull { .. }));
            assert!(*node == 1 && is_full && error.remedy() == Remedy::Retry, "{error}");
        }
        pair.nodes.iter_mut().for_each(|node| node.disconnect());
        assert!(tables(&fs) <= before + 1, "{} of {before} files", tables(&fs));
        assert_eq!(pair.nodes[1].db.health().status, Status::Healthy);
        for number in 0..200u32 {
            own.put(number.to_be_bytes(), [1; 600]).unwrap();
        }

        fs.set_free(PLENTY);
        pair.failures.clear();
        pair.settle();
        assert!(pair.events.contains(&(1, Event::Installed(tier))), "{:?}", pair.events);
        assert_eq!(pair.keyspace(1, "k").iter().count(), 3000 + usize::from(tier == Tier::Delta));
    }
}
