//! Long histories by chance, each given by its seed.

use crate::action::{Action, Pace, SLOTS};
use crate::oracle::Violation;
use crate::rule::Rules;
use crate::world::{KEYS, NODES, Role, World};
use base::Origin;

/// A history that broke a promise.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) roles: [Role; NODES],
    pub(crate) joiner: Option<usize>,
    pub(crate) steps: Vec<Action>,
    pub(crate) violation: Violation,
}

/// A small generator of numbers (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Steps of a history by chance.
const STEPS: usize = 40;
/// Refused attempts after which a history ends early.
const ATTEMPTS: usize = 1500;

/// Plays the history of `seed`, and heals its end and one moment in between. Returns its steps.
pub(crate) fn play(seed: u64, rules: &Rules) -> Result<usize, Box<Failure>> {
    let mut chance = Chance(seed);
    let (roles, joiner) = first_world(&mut chance);
    let mut world = World::new(roles, joiner);
    let mut steps = Vec::new();
    let length = 6 + chance.below(STEPS);
    let healed_at = chance.below(length);
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let action = attempt(&world, &mut chance);
        let mut next = world.clone();
        if !next.step(action, rules) {
            continue;
        }
        steps.push(action);
        outcome = next.check_step(&world, action);
        world = next;
        if outcome.is_ok() && steps.len() == healed_at {
            outcome = world.check_healed(rules);
        }
        if outcome.is_err() || steps.len() == length {
            break;
        }
    }
    match outcome.and_then(|()| world.check_healed(rules)) {
        Ok(()) => Ok(steps.len()),
        Err(violation) => Err(Box::new(Failure { seed, roles, joiner, steps, violation })),
    }
}

/// Three authors; or one of them an observer, which relays; or one of them still empty.
fn first_world(chance: &mut Chance) -> ([Role; NODES], Option<usize>) {
    let mut roles = [Role::Author; NODES];
    if chance.below(2) == 0 {
        roles[chance.below(NODES)] = Role::Observer;
    }
    let joiner = (chance.below(4) == 0).then(|| chance.below(NODES));
    (roles, joiner)
}

/// A step that may be refused.
fn attempt(world: &World, chance: &mut Chance) -> Action {
    let (at, other) = (chance.below(NODES), chance.below(NODES));
    let (key, slot) = (chance.below(KEYS), chance.pick(&SLOTS));
    let pace = chance.pick(&[Pace::Slow, Pace::Slow, Pace::Fast]);
    let (from, to) = (at, other);
    match chance.below(103) {
        0..=7 => Action::Put { at, key, pace },
        8..=15 => Action::Delete { at, slot, pace },
        16..=39 => Action::Ship { from, to, author: any_author(world, chance) },
        40..=54 => Action::State { from, to, about: chance.pick(&[from, chance_name(at)]) },
        55..=56 => Action::RaiseFloor { at },
        57..=66 => Action::Collect { at, slot },
        67..=68 => Action::TrimLog { at },
        69..=73 => Action::Delta { from, to },
        74..=77 => Action::Push { from, to },
        78..=81 => Action::Fetch { from, to },
        82..=83 => Action::Bootstrap { from, to },
        84..=88 => Action::Install { at },
        89 => Action::BreakOff { at },
        90 => Action::Relax { at },
        91 => Action::Sync { at },
        92 => Action::PowerLoss { at },
        93..=94 => Action::Backup { at },
        95..=96 => Action::Restore { at },
        97..=98 => Action::Announce { at, to },
        99 => Action::Deprecate { at, who: other },
        _ => Action::Become { at, who: other, role: chance.pick(&[Role::Author, Role::Observer]) },
    }
}

/// A node beside `at`.
fn chance_name(at: usize) -> usize {
    (at + 1) % NODES
}

fn any_author(world: &World, chance: &mut Chance) -> Origin {
    let authors: Vec<Origin> = world.streams.keys().copied().collect();
    if authors.is_empty() { world.nodes[0].origin } else { chance.pick(&authors) }
}

impl Failure {
    /// The same failure in as few steps as leaving out steps can do.
    pub(crate) fn shrunk(mut self, rules: &Rules) -> Failure {
        let kind = std::mem::discriminant(&self.violation);
        let mut at = self.steps.len();
        while at > 0 {
            at -= 1;
            let mut steps = self.steps.clone();
            steps.remove(at);
            let (steps, outcome) = replay(World::new(self.roles, self.joiner), &steps, rules);
            match outcome {
                Err(violation) if std::mem::discriminant(&violation) == kind => {
                    self.steps = steps;
                    self.violation = violation;
                    at = self.steps.len();
                }
                _ => {}
            }
        }
        self
    }
}

/// Takes those of `steps` that are not refused, and heals at the end. Returns the steps taken.
pub(crate) fn replay(
    mut world: World,
    steps: &[Action],
    rules: &Rules,
) -> (Vec<Action>, Result<(), Violation>) {
    let mut taken = Vec::new();
    for action in steps {
        let before = world.clone();
        if !world.step(*action, rules) {
            continue;
        }
        taken.push(*action);
        if let Err(violation) = world.check_step(&before, *action) {
            return (taken, Err(violation));
        }
    }
    let outcome = world.check_healed(rules);
    (taken, outcome)
}

impl Failure {
    /// The history with what each node held after each step.
    pub(crate) fn told(&self, rules: &Rules) -> String {
        format!("{self}\n{}", World::new(self.roles, self.joiner).tell(&self.steps, rules))
    }
}

impl World {
    /// Every step with the world after it, and the steps of healing.
    pub(crate) fn tell(mut self, steps: &[Action], rules: &Rules) -> String {
        let mut text = format!("{self}");
        for action in steps {
            self.step(*action, rules);
            text += &format!("  {action}\n{self}");
        }
        text + "  healing\n" + &self.tell_healing(rules)
    }
}
