//! Kinds of settings and their values.

use crate::database;
use crate::logs;
use base::limits::check_keyspace_name;
use replication::link::Token;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Words, a path, an address or a choice. Empty means none.
    Text(String),
    /// A count of what the name of the setting says.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
}

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The path of a file or directory.
    Path,
    /// An address of this machine, with a port.
    Address,
    /// An IPv4 address by which all of a local network are reached.
    Network,
    /// Tokens by name, each as its hash: NAME:HASH.
    Tokens,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Bytes between the two, in a file also with a unit: "64 MiB".
    Bytes(u64, u64),
    /// A number between the two.
    Number(u64, u64),
    /// true or false.
    Flag,
    /// Peers: ID@ADDR.
    Peers,
    /// Names of keyspaces.
    Keyspaces,
    /// Resolvers of keyspaces: KEYSPACE=json.
    Resolvers,
    /// An invitation: TOKEN@ADDR.
    Invitation,
    /// Levels by component, as the log reads them.
    Levels,
}

/// Units of bytes.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Kind {
    /// What is allowed, as words.
    pub(super) fn allowed(self) -> String {
        match self {
            Kind::Path => "a path".to_owned(),
            Kind::Address => "an address and a port, such as 127.0.0.1:7400".to_owned(),
            Kind::Network => {
                "an IPv4 address: 255.255.255.255, the broadcast address of a subnet, or a multicast group"
                    .to_owned()
            }
            Kind::Tokens => {
                "NAME:HASH: a name of letters, digits and dashes that is not `file`, and 64 \
                             hexadecimal digits, as `esker config token` prints them"
                    .to_owned()
            }
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Bytes(least, most) => {
                format!(
                    "{} to {}, as a number of bytes or with a unit",
                    in_units(least),
                    in_units(most)
                )
            }
            Kind::Number(least, most) => format!("a number from {least} to {most}"),
            Kind::Flag => "true or false".to_owned(),
            Kind::Keyspaces => "names of keyspaces that do not start with esker.".to_owned(),
            Kind::Resolvers => {
                "KEYSPACE=json: the name of a keyspace, and how its conflicts are resolved"
                    .to_owned()
            }
            Kind::Invitation => {
                "TOKEN@ADDR: what `esker peers invite` prints, then host:port".to_owned()
            }
            Kind::Levels => {
                "components and levels, such as replication=debug,esker=warn".to_owned()
            }
            Kind::Peers => {
                "ID@ADDR: the 32 digits that `esker id` prints, then host:port as numbers"
                    .to_owned()
            }
        }
    }

    /// Reads a value from the words of an environment variable or a command line.
    pub(super) fn read(self, words: &str) -> Option<Value> {
        let value = match self {
            Kind::Number(..) => Value::Number(words.trim().parse().ok()?),
            Kind::Bytes(..) => Value::Number(bytes_of(words)?),
            Kind::Flag => Value::Flag(words.trim().parse().ok()?),
            Kind::Peers | Kind::Keyspaces | Kind::Resolvers | Kind::Tokens => {
                let parts = words.split(',').map(str::trim).filter(|part| !part.is_empty());
                Value::List(parts.map(str::to_owned).collect())
            }
            Kind::Path
            | Kind::Address
            | Kind::Network
            | Kind::Choice(_)
            | Kind::Invitation
            | Kind::Levels => Value::Text(words.to_owned()),
        };
        self.admit(value)
    }

    /// Takes `value`, in the form this kind keeps it, if it is allowed.
    pub(super) fn admit(self, value: Value) -> Option<Value> {
        let value = match (self, value) {
            // A file may write bytes with a unit.
            (Kind::Bytes(..), Value::Text(words)) => Value::Number(bytes_of(&words)?),
            (_, value) => value,
        };
        let is_allowed = match (self, &value) {
            (Kind::Path, Value::Text(_)) | (Kind::Flag, Value::Flag(_)) => true,
            (Kind::Address, Value::Text(words)) => words.parse::<SocketAddr>().is_ok(),
            (Kind::Network, Value::Text(words)) => {
                words.parse::<Ipv4Addr>().is_ok_and(|address| !address.is_unspecified())
            }
            (Kind::Tokens, Value::List(tokens)) => {
                tokens.iter().all(|words| token_of(words).is_some())
            }
            (Kind::Choice(allowed), Value::Text(words)) => allowed.contains(&words.as_str()),
            (Kind::Bytes(least, most) | Kind::Number(least, most), Value::Number(number)) => {
                (least..=most).contains(number)
            }
            (Kind::Invitation, Value::Text(words)) => {
                words.is_empty() || invitation_of(words).is_some()
            }
            (Kind::Levels, Value::Text(words)) => logs::is_filter(words),
            (Kind::Keyspaces, Value::List(names)) => names.iter().all(|name| {
                check_keyspace_name(name).is_ok() && database::check_changeable(name).is_ok()
            }),
            (Kind::Resolvers, Value::List(resolvers)) => resolvers.iter().all(|words| {
                resolved_by_json(words).is_some_and(|name| {
                    check_keyspace_name(name).is_ok() && database::check_changeable(name).is_ok()
                })
            }),
            (Kind::Peers, Value::List(peers)) => {
                peers.iter().all(|peer| peer.parse::<crate::replicas::PeerAddress>().is_ok())
            }
            _ => false,
        };
        is_allowed.then_some(value)
    }
}

/// Token and address of an invitation.
pub(super) fn invitation_of(words: &str) -> Option<(Token, SocketAddr)> {
    let (token, address) = words.rsplit_once('@')?;
    Some((token.parse().ok()?, address.parse().ok()?))
}

/// The keyspace of a resolver written KEYSPACE=json, the only one there is.
pub(crate) fn resolved_by_json(words: &str) -> Option<&str> {
    words.strip_suffix("=json")
}

/// The name of the token that a file holds.
pub(crate) const FILE_TOKEN: &str = "file";

/// Name and hash of a token written NAME:HASH.
pub(crate) fn token_of(words: &str) -> Option<(String, blake3::Hash)> {
    let (name, hash) = words.split_once(':')?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_named = (1..=64).contains(&name.len()) && name.bytes().all(is_name);
    let hash = blake3::Hash::from_hex(hash).ok()?;
    (is_named && name != FILE_TOKEN).then(|| (name.to_owned(), hash))
}

/// A number of bytes, perhaps with a unit behind it.
fn bytes_of(words: &str) -> Option<u64> {
    let words = words.trim();
    let unit = UNITS.into_iter().find_map(|(unit, size)| Some((words.strip_suffix(unit)?, size)));
    let (number, size) = unit.unwrap_or((words, 1));
    number.trim_end().parse::<u64>().ok()?.checked_mul(size)
}

/// `bytes` in the largest unit of which they are a multiple.
pub(super) fn in_units(bytes: u64) -> String {
    let unit = UNITS.into_iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    match unit {
        Some((unit, size)) if size > 1 => format!("{} {unit}", bytes / size),
        _ => bytes.to_string(),
    }
}

impl fmt::Display for Value {
    /// As TOML writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(words) => toml::Value::String(words.clone()).fmt(f),
            Value::Number(number) => number.fmt(f),
            Value::Flag(is_set) => is_set.fmt(f),
            Value::List(list) => {
                let list = list.iter().cloned().map(toml::Value::String).collect();
                toml::Value::Array(list).fmt(f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_and_without_units() {
        let kind = Kind::Bytes(1, 1 << 40);
        for (words, bytes) in
            [("7", 7), ("7B", 7), ("64 MiB", 64 << 20), ("1TiB", 1 << 40), (" 2 KiB ", 2048)]
        {
            assert_eq!(kind.read(words), Some(Value::Number(bytes)), "{words}");
            assert_eq!(kind.admit(Value::Text(words.into())), Some(Value::Number(bytes)));
        }
        for words in
            ["", "0", "x", "-1", "1.5 MiB", "64 MB", "2 TiB", "99999999999999999999", "MiB"]
        {
            assert_eq!(kind.read(words), None, "{words}");
        }
        for bytes in [1, 1000, 1024, 3 << 20, 64 << 20, 1 << 40] {
            assert_eq!(bytes_of(&in_units(bytes)), Some(bytes));
        }
    }

    #[test]
    fn what_is_not_allowed_is_not_admitted() {
        let text = |words: &str| Value::Text(words.to_owned());
        let hash = "0f".repeat(32);
        assert!(Kind::Tokens.read(&format!("ada:{hash},bob-2:{hash}")).is_some());
        for words in ["ada", &hash, &format!(":{hash}"), &format!("a b:{hash}"), "ada:00"] {
            assert_eq!(Kind::Tokens.read(words), None, "{words}");
        }
        assert_eq!(Kind::Tokens.read(&format!("file:{hash}")), None);
        for words in ["docs", "docs=xml", "=json", "esker.roster=json", "docs=json="] {
            assert_eq!(Kind::Resolvers.read(words), None, "{words}");
        }
        assert!(Kind::Resolvers.read("docs=json, a=b=json").is_some());
        for words in ["", "replication=debug,esker=warn", "debug", "a::b"] {
            assert_eq!(Kind::Levels.read(words), Some(text(words)));
        }
        for words in ["esker=loud", "replication=debug,x=1.5", "a=b=c"] {
            assert_eq!(Kind::Levels.read(words), None, "{words}");
        }
        assert_eq!(Kind::Address.admit(text("localhost:1")), None);
        for words in ["0.0.0.0", "::1", "239.0.0.1:7485", "localhost", ""] {
            assert_eq!(Kind::Network.admit(text(words)), None, "{words}");
        }
        assert_eq!(Kind::Choice(&["a", "b"]).admit(text("c")), None);
        assert_eq!(Kind::Number(1, 9).admit(Value::Number(10)), None);
        assert_eq!(Kind::Number(1, 9).admit(text("5")), None);
        assert_eq!(Kind::Flag.read("yes"), None);
        assert_eq!(Kind::Flag.read("true"), Some(Value::Flag(true)));
        assert_eq!(Kind::Peers.read("a@1.2.3.4:5"), None);
        assert_eq!(Kind::Peers.read(""), Some(Value::List(Vec::new())));
    }

    #[test]
    fn a_value_is_written_so_that_toml_reads_it_back() {
        let list = Value::List(vec!["a\"b".into(), "c".into()]);
        for value in
            [Value::Text("a \"b\" \\ c\n".into()), Value::Number(7), Value::Flag(true), list]
        {
            let table: toml::Table = format!("x = {value}").parse().unwrap();
            assert!(table.contains_key("x"));
        }
    }
}
