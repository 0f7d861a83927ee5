//! Histories as text: nodes A, B, C; keys x, y; `A1` is the life of A that was born first.

use crate::action::{Action, Pace};
use crate::chance::Failure;
use crate::oracle::Violation;
use crate::search::Seen;
use crate::world::{Name, Node, RANGE, Role, Slot, World, name_of};
use base::{Origin, Stamp, Vector};
use replication::rules::VersionKind;
use std::fmt;

fn name(name: Name) -> char {
    char::from(b'A' + name as u8)
}

fn key(slot: Slot) -> &'static str {
    match slot {
        0 => "x",
        1 => "y",
        RANGE => "x..=y",
        _ => "?",
    }
}

fn life(origin: Origin) -> String {
    format!("{}.{}", name(name_of(origin)), origin.incarnation.0)
}

fn stamp(stamp: Stamp) -> String {
    match stamp == Stamp::default() {
        true => "-".to_owned(),
        false => format!("{}@{}", stamp.tick, life(stamp.origin)),
    }
}

fn vector(vector: &Vector) -> String {
    let parts: Vec<_> = vector.iter().map(|(o, tick)| format!("{}:{tick}", life(o))).collect();
    format!("[{}]", parts.join(" "))
}

fn pace(pace: Pace) -> &'static str {
    match pace {
        Pace::Slow => "",
        Pace::Fast => ", ahead of all clocks",
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Action::Put { at, key: k, pace: p } => {
                write!(f, "{} puts {}{}", name(at), key(k), pace(p))
            }
            Action::Delete { at, slot, pace: p } => {
                write!(f, "{} deletes {}{}", name(at), key(slot), pace(p))
            }
            Action::Ship { from, to, author } => {
                write!(f, "{} ships a record of {} to {}", name(from), life(author), name(to))
            }
            Action::State { from, to, about } => {
                write!(f, "{} tells {} what {} stated", name(from), name(to), name(about))
            }
            Action::RaiseFloor { at } => write!(f, "{} raises its floor", name(at)),
            Action::Collect { at, slot } => write!(f, "{} drops in {}", name(at), key(slot)),
            Action::TrimLog { at } => write!(f, "{} trims its log", name(at)),
            Action::Delta { from, to } => write!(f, "{} sends {} a delta", name(from), name(to)),
            Action::Push { from, to } => {
                write!(f, "{} rejoins, pushes to {}", name(from), name(to))
            }
            Action::Fetch { from, to } => write!(f, "{} fetches from {}", name(to), name(from)),
            Action::Bootstrap { from, to } => {
                write!(f, "{} bootstraps {}", name(from), name(to))
            }
            Action::Install { at } => write!(f, "{} installs", name(at)),
            Action::BreakOff { at } => write!(f, "the transfer to {} breaks off", name(at)),
            Action::Relax { at } => write!(f, "{} commits without sync from here", name(at)),
            Action::Sync { at } => write!(f, "{} syncs", name(at)),
            Action::PowerLoss { at } => write!(f, "{} loses power", name(at)),
            Action::Backup { at } => write!(f, "{} backs up", name(at)),
            Action::Restore { at } => write!(f, "{} is restored", name(at)),
            Action::Announce { at, to } => {
                write!(f, "{} announces itself to {}", name(at), name(to))
            }
            Action::Overrule { at } => write!(f, "an operator lets {} write", name(at)),
            Action::Deprecate { at, who } => write!(f, "{} deprecates {}", name(at), name(who)),
            Action::Become { at, who, role } => {
                write!(f, "{} makes {} {role:?}", name(at), name(who))
            }
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", life(self.origin))?;
        let marks = [
            (self.is_empty, "empty "),
            (self.is_unannounced, "unannounced "),
            (self.is_rejoining, "rejoining "),
            (self.needs_answer, "unanswered "),
            (self.staged.is_some(), "staged "),
            (self.durable.is_some(), "unsynced "),
        ];
        marks.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, mark)| f.write_str(mark))?;
        for (slot, version) in self.scope.slots.iter().enumerate() {
            if let Some(version) = version {
                let kind = match version.kind {
                    VersionKind::Put => "put",
                    VersionKind::Tombstone => "del",
                    VersionKind::Erase => "erase",
                };
                write!(f, "{}={kind} {} ", key(slot), stamp(version.stamp))?;
            }
        }
        let scope = &self.scope;
        let roles = scope.roster.iter().map(|member| member.map_or('?', |m| role(m.role)));
        let roles: String = roles.collect();
        let (vector, floor) = (vector(&scope.vector), vector(&scope.floor));
        write!(f, "clock {} vector {vector} floor {floor} ", self.clock)?;
        write!(
            f,
            "dropped {} roster {roles} quarantine {}",
            stamp(scope.dropped),
            scope.quarantine.len()
        )
    }
}

fn role(role: Role) -> char {
    match role {
        Role::Author => 'a',
        Role::Observer => 'o',
        Role::Deprecated => 'd',
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| writeln!(f, "      {node}"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = |read: &Option<Stamp>| read.map_or("nothing".to_owned(), stamp);
        match self {
            Violation::Read { at, key: k, found, expected } => {
                let (found, expected) = (read(found), read(expected));
                write!(f, "{} reads {found} in {}, not {expected}", name(*at), key(*k))
            }
            Violation::Quarantine { at } => write!(f, "{} has wrong copies", name(*at)),
            Violation::HealthyErased { victim } => {
                write!(f, "the put {} of a healthy author is erased", stamp(*victim))
            }
            Violation::WentBack { at } => write!(f, "{} went back", name(*at)),
            Violation::Stuck { at } => write!(f, "{} lacks something for ever", name(*at)),
            Violation::HeldForEver { at, slot } => {
                write!(f, "{} may never drop {}", name(*at), key(*slot))
            }
            Violation::Restless => f.write_str("healing never ends"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { worlds, steps, depth, is_complete } = self;
        let end = if *is_complete { "all there are" } else { "cut off there" };
        write!(f, "{worlds} worlds, {steps} steps, depth {depth}, {end}")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, roles, joiner, steps, violation } = self;
        writeln!(f, "seed {seed}, {roles:?}, joiner {:?}:", joiner.map(name))?;
        steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        write!(f, "  => {violation}")
    }
}
