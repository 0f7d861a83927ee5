//! One node is cut off while all write, another is killed in the middle of its writes.

use super::super::brood::broken;
use super::super::ledger::Write;
use super::super::node::{Node, until, write};
use super::super::report::Report;
use super::{KEYSPACE, Trio, has};
use crate::error::Outcome;
use crate::place::Remote;
use crate::replicas::PeerChange;
use crate::ucd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

/// Rounds in which the contested keys are written to, and writes of each node in each of them.
const ROUNDS: usize = 15;
const EDITS: usize = 8;
/// Writes that are acknowledged before their node is killed.
const KILLED_AFTER: usize = 200;
/// Writes while that node is dead.
const MEANWHILE: usize = 50;

impl Trio<'_> {
    /// Cuts c off; all three write to the same keys at the same time.
    pub(super) fn cut_off(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("cut c off, write on all three");
        let [a, b, c] = &self.nodes;
        a.change(c, PeerChange::Disable)?;
        b.change(c, PeerChange::Disable)?;
        until("c is alone", || {
            let apart = [a.peer(c)?, b.peer(c)?, c.peer(a)?, c.peer(b)?];
            Ok(apart.iter().all(|peer| !peer.online))
        })?;
        let before = self.ledger.clone();
        let writes = edit_at_once(&self.nodes)?;
        let mut alone = before;
        let [of_a, of_b, of_c] = &writes;
        for write in of_c {
            alone.note(KEYSPACE, write.clone());
        }
        for writes in [of_a, of_b] {
            self.note(KEYSPACE, writes);
        }
        let (together, alone) = (self.ledger.digest(), alone.digest());
        let [a, b, c] = &self.nodes;
        until("a and b hold the writes of both", || {
            Ok(a.digest()? == together && b.digest()? == together)
        })?;
        step.check(c.digest()? == alone, "c does not hold exactly its own writes");
        step.check(alone != together, "c was not cut off");
        let count = writes.iter().map(Vec::len).sum::<usize>();
        step.measured("writes", count as f64);
        // They count for all once c is back.
        self.alone.clone_from(of_c);
        let found = format!("{count} writes to {} keys", contested().len());
        report.end(step, format_args!("{found}; a and b agree, c differs, as it must"))
    }

    /// Kills b in the middle of its writes and starts it again.
    pub(super) fn kill(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("kill b, start it again");
        let [a, b, c] = &mut self.nodes;
        let (acknowledged, unanswered) = write_until_killed(b)?;
        step.check(acknowledged.len() >= KILLED_AFTER, "it ended before it was killed");
        let mut meanwhile = Vec::new();
        for number in 0..MEANWHILE {
            meanwhile.push(a.write(KEYSPACE, &format!("meanwhile {number}"), Some("by a"))?);
        }
        let started = report.seconds(&step);
        b.start()?;
        let seconds = report.seconds(&step) - started;
        let at_b = b.data()?;
        for write in &acknowledged {
            step.check(has(&at_b, KEYSPACE, &write.key)?, "an acknowledged write is gone");
        }
        step.check(!b.peer(c)?.enabled, "b forgot that it is not to talk to c");
        let at_b = b.data()?;
        // Whether the last one was stored is for the node to say.
        let kept = has(&at_b, KEYSPACE, &unanswered.key)?;
        let count = acknowledged.len();
        self.note(KEYSPACE, &acknowledged);
        self.note(KEYSPACE, &meanwhile);
        if kept {
            self.note(KEYSPACE, &[unanswered]);
        }
        let expected = self.ledger.digest();
        let [a, b, _] = &self.nodes;
        until("a and b agree again", || Ok(a.digest()? == expected && b.digest()? == expected))?;
        let found = format!("SIGKILL after {count} acknowledged writes, all there");
        report.end(step, format_args!("{found}; serves again in {:.0} ms", seconds * 1000.0))
    }

    /// Lets c meet the others again.
    pub(super) fn heal(&mut self, report: &mut Report<'_>) -> Outcome {
        let mut step = report.begin("let c back in");
        let alone = std::mem::take(&mut self.alone);
        let lost = self.note(KEYSPACE, &alone);
        let [a, b, c] = &self.nodes;
        a.change(c, PeerChange::Enable)?;
        b.change(c, PeerChange::Enable)?;
        self.settle(&mut step)?;
        let ms = report.seconds(&step) * 1000.0;
        step.measured("heal_ms", ms);
        step.measured("overtaken", lost as f64);
        let mut winners = [0; 3];
        for key in contested() {
            let winner = self.ledger.last_write(KEYSPACE, &key);
            for (node, won) in self.nodes.iter().zip(&mut winners) {
                *won += usize::from(winner.is_some_and(|winner| winner.stamp.node == node.id));
            }
        }
        step.check(winners.iter().sum::<usize>() == contested().len(), "a conflict has no winner");
        let [of_a, of_b, of_c] = winners;
        let found = format!("equal digests in {ms:.0} ms; the last write to each key stands");
        report.end(step, format_args!("{found}: {of_a} of a, {of_b} of b, {of_c} of c"))
    }
}

/// The keys that all write to.
fn contested() -> Vec<String> {
    (0x1F600..=0x1F63F).map(ucd::key_of).collect()
}

/// Lets all nodes write to the contested keys at the same time: in rounds, so that the fastest one
/// is not always the first.
fn edit_at_once(nodes: &[Node<'_>; 3]) -> Outcome<[Vec<Write>; 3]> {
    let [a, b, c] = nodes;
    let editors = [Editor::of(0, a)?, Editor::of(1, b)?, Editor::of(2, c)?];
    let keys = contested();
    let mut written = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let writes: Vec<Outcome<Vec<Write>>> = thread::scope(|scope| {
            let edit = |editor: &Editor| {
                let (editor, keys) = (editor.clone(), &keys);
                scope.spawn(move || editor.edit(round, keys))
            };
            let threads = editors.each_ref().map(edit);
            threads.into_iter().map(joined).collect()
        });
        for (all, new) in written.iter_mut().zip(writes) {
            all.extend(new?);
        }
    }
    Ok(written)
}

/// One who writes to the contested keys.
#[derive(Clone)]
struct Editor {
    number: usize,
    name: &'static str,
    id: String,
    url: String,
}

impl Editor {
    fn of(number: usize, node: &Node<'_>) -> Outcome<Editor> {
        let (id, url) = (node.id.clone(), node.url()?.to_owned());
        Ok(Editor { number, name: node.name, id, url })
    }

    fn edit(&self, round: usize, keys: &[String]) -> Outcome<Vec<Write>> {
        let data = Remote::new(&self.url)?;
        let mut writes = Vec::new();
        for edit in round * EDITS..(round + 1) * EDITS {
            let Some(key) = keys.get((edit * 7 + self.number) % keys.len().max(1)) else { break };
            let value = format!("edit {edit} of {}", self.name);
            let value = Some(value.as_str()).filter(|_| !(edit + self.number).is_multiple_of(5));
            writes.push(write(&data, &self.id, KEYSPACE, key, value)?);
        }
        Ok(writes)
    }
}

/// Writes to `node` until it is killed. Returns what it acknowledged, and the write that it did not
/// answer any more.
fn write_until_killed(node: &mut Node<'_>) -> Outcome<(Vec<Write>, Write)> {
    let (url, id) = (node.url()?.to_owned(), node.id.clone());
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let data = Remote::new(&url)?;
            let mut acknowledged = Vec::new();
            loop {
                let key = format!("until killed {:06}", acknowledged.len());
                match write(&data, &id, KEYSPACE, &key, Some("by b")) {
                    Ok(written) => acknowledged.push(written),
                    Err(_) => {
                        let (value, stamp) = (Some("by b".to_owned()), Default::default());
                        return Ok((acknowledged, Write { key, value, stamp }));
                    }
                }
                count.store(acknowledged.len(), Ordering::Release);
            }
        });
        let reached = until("it acknowledged enough writes", || {
            Ok(count.load(Ordering::Acquire) >= KILLED_AFTER || writing.is_finished())
        });
        node.kill()?;
        reached?;
        joined(writing)
    })
}

fn joined<T>(thread: ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    let ended = || broken("wait for", std::io::ErrorKind::Other.into());
    thread.join().unwrap_or_else(|_| Err(ended()))
}
