//! Stories of three whole replicas over real QUIC in simulated time: each is a function of its seed.
//!
//! ```text
//! plan      what kind of story: who reaches whom, what happens how often
//! world     nodes, network, time; machine is one disk and its database, in memory or of the engine
//! action    what happens: writes, weather, cuts, clocks, crashes, restores, collection
//! roles     operators shut nodes out, and say who writes and who reads
//! heal      all is made well, and all must become equal
//! watch     what must hold at every moment; ledger: what must be read at the end
//! ```

mod action;
mod confess;
mod counts;
mod dice;
mod engine;
mod heal;
mod ledger;
mod machine;
mod memory;
mod plan;
mod roles;
mod watch;
mod world;

pub(crate) use self::engine::EngineMachine;
pub(crate) use counts::Counts;
pub(crate) use machine::Machine;
pub(crate) use memory::MemoryMachine;

use dice::Dice;
use plan::Plan;
use replication::link::sim::{SimNet, simulate};
use std::cell::Cell;
use world::World;

/// What came of a story.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// A digest of every packet, and of what all nodes hold at the end.
    pub(crate) trace: String,
    /// What is wrong, if anything is.
    pub(crate) found: Option<String>,
    /// What happened, line by line.
    pub(crate) log: Vec<String>,
}

thread_local! {
    /// Panics of tasks, which nobody else would hear of.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts panics from now on.
pub(crate) fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.set(PANICS.get() + 1);
        before(panic);
    }));
}

/// Tells the story of `seed`.
pub(crate) fn tell<M: Machine>(seed: u64) -> Outcome {
    let panics = PANICS.get();
    let mut outcome = simulate(seed, |net| run::<M>(net, seed)).unwrap();
    if PANICS.get() != panics && outcome.found.is_none() {
        outcome.found = Some("a task panicked".to_owned());
    }
    outcome
}

/// Tells the story of `seed` twice. It is the same each time, packet by packet, or that is what is wrong.
pub(crate) fn tell_twice<M: Machine>(seed: u64) -> Outcome {
    let mut once = tell::<M>(seed);
    let again = tell::<M>(seed);
    if once.found.is_none() {
        once.found = once.difference(&again);
    }
    once
}

impl Outcome {
    /// What is not the same in both.
    fn difference(&self, other: &Outcome) -> Option<String> {
        let differs = |(one, two): &(&String, &String)| one != two;
        if let Some((one, two)) = self.log.iter().zip(&other.log).find(differs) {
            return Some(format!("told twice, it differs: `{one}` and `{two}`"));
        }
        let (lines, others) = (self.log.len(), other.log.len());
        if lines != others {
            return Some(format!("told twice, it differs: {lines} lines and {others}"));
        }
        if self.trace != other.trace {
            let (one, two) = (&self.trace, &other.trace);
            return Some(format!("told twice, it differs: traces {one} and {two}"));
        }
        let (one, two) = (&self.counts, &other.counts);
        (one != two).then(|| format!("told twice, it differs:\n{one}\nand\n{two}"))
    }
}

async fn run<M: Machine>(net: SimNet, seed: u64) -> Outcome {
    let mut dice = Dice::new(seed);
    let plan = Plan::of(&mut dice).with_audits(&mut Dice::new(!seed));
    let plan = plan.with_roles(&mut Dice::new(seed.rotate_left(32)));
    let plan = plan.with_limits(&mut Dice::new(!seed.rotate_left(32)));
    let mut world = World::<M>::new(net.clone(), dice.roll(), &plan);
    world.say(format!("{plan:?}"));
    let told = world.tell(&plan).await;
    let found = told.as_ref().err().cloned();
    if found.is_some() {
        world.confess();
    }
    for replica in world.nodes.iter().filter_map(|node| node.replica.as_ref()) {
        world.counts.note(replica.totals());
    }
    let packets = net.counts();
    world.counts.stories = 1;
    world.counts.time = world.elapsed();
    world.counts.packets = packets.sent;
    world.counts.packets_lost = packets.lost + packets.cut;
    world.counts.lost = world.ledger.lost;
    let trace = format!("{} {}", net.trace(), told.unwrap_or_default());
    Outcome { counts: world.counts, trace, found, log: world.log }
}

impl<M: Machine> World<M> {
    /// Everything that happens; returns a digest of what all have at the end.
    async fn tell(&mut self, plan: &Plan) -> Result<String, String> {
        self.open(plan).await?;
        for _ in 0..plan.steps {
            let pause = self.dice.below(plan.pause_ms);
            self.pass(std::time::Duration::from_millis(pause)).await?;
            let action = plan.next(&mut self.dice);
            self.act(plan, action).await?;
        }
        self.heal(plan).await
    }
}
