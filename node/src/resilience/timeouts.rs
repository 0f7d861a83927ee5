//! How long something may take, by name; changed while a node runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The shortest and the longest timeout that can be set.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(3600);

/// What may take a limited time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Timeout {
    /// The head of an HTTP request, and idleness between two.
    HttpHead,
    /// How far the body of an HTTP request may fall behind 16 KiB a second.
    HttpBody,
    /// How far whoever reads an HTTP answer may fall behind 16 KiB a second.
    HttpAnswer,
    /// Waiting for memory or a turn that others have.
    Share,
    /// Requests that go on after the node was told to stop.
    Drain,
    /// Work that goes on after requests were cut off.
    Close,
    /// A look of a health check.
    HealthCheck,
    /// A connection to a peer, until both have shown their keys.
    PeerDial,
    /// What a peer says first on a connection.
    PeerHello,
    /// A backup in which nothing goes on: none is cut off for being long.
    Backup,
}

/// Sets of timeouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// For most.
    #[default]
    Standard,
    /// Patient with slow disks and networks.
    Production,
    /// Short, so that tests of what hangs end soon.
    Test,
}

impl Profile {
    /// Its name in a configuration.
    pub fn named(name: &str) -> Option<Profile> {
        match name {
            "default" => Some(Profile::Standard),
            "production" => Some(Profile::Production),
            "test" => Some(Profile::Test),
            _ => None,
        }
    }
}

impl Timeout {
    /// All of them.
    pub const ALL: [Timeout; 10] = [
        Timeout::HttpHead,
        Timeout::HttpBody,
        Timeout::HttpAnswer,
        Timeout::Share,
        Timeout::Drain,
        Timeout::Close,
        Timeout::HealthCheck,
        Timeout::PeerDial,
        Timeout::PeerHello,
        Timeout::Backup,
    ];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Timeout::HttpHead => "http_head",
            Timeout::HttpBody => "http_body",
            Timeout::HttpAnswer => "http_answer",
            Timeout::Share => "share",
            Timeout::Drain => "drain",
            Timeout::Close => "close",
            Timeout::HealthCheck => "health_check",
            Timeout::PeerDial => "peer_dial",
            Timeout::PeerHello => "peer_hello",
            Timeout::Backup => "backup",
        }
    }

    /// The timeout of that name.
    pub fn named(name: &str) -> Option<Timeout> {
        Timeout::ALL.into_iter().find(|timeout| timeout.name() == name)
    }

    /// Whether the timeout `name` can be set to `value`.
    pub fn check(name: &str, value: Duration) -> Result<Timeout, BadTimeout> {
        let timeout = Timeout::named(name);
        let timeout = timeout.ok_or_else(|| BadTimeout::Unknown { name: name.to_owned() })?;
        match (SHORTEST..=LONGEST).contains(&value) {
            true => Ok(timeout),
            false => Err(BadTimeout::OutOfRange { name: timeout.name(), value }),
        }
    }

    fn of(self, profile: Profile) -> Duration {
        let seconds = match self {
            Timeout::HttpHead | Timeout::HttpBody | Timeout::Share => [10, 30, 1],
            Timeout::HttpAnswer | Timeout::Drain => [30, 30, 2],
            Timeout::Close => [5, 5, 1],
            Timeout::HealthCheck => [2, 5, 1],
            Timeout::PeerDial | Timeout::PeerHello => [5, 10, 2],
            Timeout::Backup => [600, 1800, 30],
        };
        let [standard, production, test] = seconds.map(Duration::from_secs);
        match profile {
            Profile::Standard => standard,
            Profile::Production => production,
            Profile::Test => test,
        }
    }
}

/// A timeout that can not be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadTimeout {
    /// No timeout has that name.
    Unknown {
        /// The name.
        name: String,
    },
    /// It is too short or too long.
    OutOfRange {
        /// The name.
        name: &'static str,
        /// What was asked for.
        value: Duration,
    },
}

impl fmt::Display for BadTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadTimeout::Unknown { name } => {
                let names = Timeout::ALL.map(Timeout::name).join(", ");
                write!(f, "there is no timeout `{name}`; there are {names}")
            }
            BadTimeout::OutOfRange { name, value } => {
                let value = value.as_millis();
                write!(f, "the timeout `{name}` is {value} ms; 1 ms to 3600000 ms are allowed")
            }
        }
    }
}

impl std::error::Error for BadTimeout {}

/// All timeouts of a node. Clones share them; reading one costs one load.
#[derive(Clone, Debug)]
pub struct Timeouts {
    millis: Arc<[AtomicU64; Timeout::ALL.len()]>,
}

impl Timeouts {
    /// Those of `profile`.
    pub fn of(profile: Profile) -> Timeouts {
        let millis = Timeout::ALL.map(|timeout| AtomicU64::new(millis_of(timeout.of(profile))));
        Timeouts { millis: Arc::new(millis) }
    }

    /// How long `timeout` is now.
    pub fn get(&self, timeout: Timeout) -> Duration {
        let millis = self.millis.get(timeout as usize);
        Duration::from_millis(millis.map_or(0, |millis| millis.load(Ordering::Relaxed)))
    }

    /// Changes the timeout `name`; what waits already is not changed.
    pub fn set(&self, name: &str, value: Duration) -> Result<(), BadTimeout> {
        let timeout = Timeout::check(name, value)?;
        if let Some(millis) = self.millis.get(timeout as usize) {
            millis.store(millis_of(value), Ordering::Relaxed);
        }
        Ok(())
    }

    /// All of them, in milliseconds by name.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        Timeout::ALL.into_iter().map(|of| (of.name(), millis_of(self.get(of)))).collect()
    }
}

fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_place_of_its_own() {
        let timeouts = Timeouts::of(Profile::Standard);
        for (n, timeout) in (1..).zip(Timeout::ALL) {
            assert_eq!(Timeout::named(timeout.name()), Some(timeout));
            timeouts.set(timeout.name(), Duration::from_millis(n)).unwrap();
        }
        for (n, timeout) in (1..).zip(Timeout::ALL) {
            assert_eq!(timeouts.get(timeout), Duration::from_millis(n));
            assert_eq!(timeouts.all()[timeout.name()], n);
        }
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        let timeouts = Timeouts::of(Profile::Test);
        let before = timeouts.all();
        for millis in [0, 3_600_001] {
            let refused = timeouts.set("drain", Duration::from_millis(millis)).unwrap_err();
            assert!(refused.to_string().contains("1 ms to 3600000 ms"), "{refused}");
        }
        let refused = timeouts.set("sleep", SHORTEST).unwrap_err();
        assert!(refused.to_string().contains("http_head, http_body"), "{refused}");
        assert_eq!(timeouts.all(), before);
    }

    #[test]
    fn profiles_differ_and_have_names() {
        for (name, drain) in [("default", 30_000), ("production", 30_000), ("test", 2_000)] {
            let profile = Profile::named(name).unwrap();
            assert_eq!(Timeouts::of(profile).all()["drain"], drain);
        }
        assert_eq!(Profile::named("fast"), None);
    }
}
