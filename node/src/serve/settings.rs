//! What a node is started with: the command line, or a file with the same names.
//!
//! ```text
//! path = "data"                         the directory, created if it is missing
//! listen = "127.0.0.1:7400"             where peers connect
//! http = "127.0.0.1:8080"               where users connect
//! peers = ["ID@10.0.0.2:7400"]          the first peers
//! join = "TOKEN@10.0.0.2:7400"          or the invitation of a node
//! role = "writer"                       or "replica", "respond-only"
//! end_with_input = false                stops at the end of standard input too
//! lag_threshold_ms = 30000              a peer that lags as much: degraded
//! critical_lag_threshold_ms = 120000    and as much: unhealthy
//! ```

use super::LagThresholds;
use crate::error::{Exit, Failure, Outcome};
use crate::replicas::{PeerAddress, Role};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where users connect unless told otherwise.
const HTTP_PORT: u16 = 8080;

/// What a node is started with, as it was written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsFile {
    /// The directory.
    pub(crate) path: Option<PathBuf>,
    /// Where peers connect.
    pub(crate) listen: Option<String>,
    /// Where users connect.
    pub(crate) http: Option<String>,
    /// The first peers.
    #[serde(default)]
    pub(crate) peers: Vec<String>,
    /// An invitation.
    pub(crate) join: Option<String>,
    /// What the node is to its peers.
    #[serde(default)]
    pub(crate) role: Role,
    /// Whether the end of standard input stops it.
    #[serde(default)]
    pub(crate) end_with_input: bool,
    /// See [`LagThresholds`].
    pub(crate) lag_threshold_ms: Option<u64>,
    /// See [`LagThresholds`].
    pub(crate) critical_lag_threshold_ms: Option<u64>,
}

impl SettingsFile {
    /// Reads `text`, the content of `file`.
    pub(crate) fn parse(text: &str, file: &Path) -> Outcome<SettingsFile> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() as u64 + 1;
            invalid(error.message()).at(file).line(line)
        })
    }
}

/// What a node is started with, understood.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The directory.
    pub(crate) path: PathBuf,
    /// Where peers connect.
    pub(crate) listen: SocketAddr,
    /// Where users connect: on this machine.
    pub(crate) http: SocketAddr,
    /// The first peers.
    pub(crate) peers: Vec<PeerAddress>,
    /// An invitation: token and address.
    pub(crate) join: Option<(String, SocketAddr)>,
    /// What the node is to its peers.
    pub(crate) role: Role,
    /// Whether the end of standard input stops it.
    pub(crate) end_with_input: bool,
    /// When a peer lags.
    pub(crate) thresholds: LagThresholds,
}

impl Settings {
    /// Understands `file`.
    pub(crate) fn of(file: SettingsFile) -> Outcome<Settings> {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let address = |name, text: Option<String>, default| match text {
            Some(text) => parse_address(name, &text),
            None => Ok(default),
        };
        let http = address("http", file.http, loopback(HTTP_PORT))?;
        if !http.ip().is_loopback() {
            return Err(Failure::new(
                Exit::Input,
                "NotLoopback",
                format!("HTTP at {http} would be open to other machines, without encryption and passwords"),
            )
            .action("listen at 127.0.0.1 or [::1], behind a proxy that authenticates"));
        }
        let standard = LagThresholds::default();
        Ok(Settings {
            path: file.path.ok_or_else(|| invalid("no directory is given: `path` is missing"))?,
            listen: address("listen", file.listen, loopback(0))?,
            http,
            peers: file.peers.iter().map(|peer| peer.parse()).collect::<Outcome<_>>()?,
            join: file.join.as_deref().map(parse_join).transpose()?,
            role: file.role,
            end_with_input: file.end_with_input,
            thresholds: LagThresholds::new(
                file.lag_threshold_ms.unwrap_or(standard.degraded_ms()),
                file.critical_lag_threshold_ms.unwrap_or(standard.unhealthy_ms()),
            ),
        })
    }
}

fn parse_address(name: &str, text: &str) -> Outcome<SocketAddr> {
    let refuse = |_| invalid(&format!("`{name}` is an address and a port, such as 127.0.0.1:8080"));
    text.parse().map_err(refuse)
}

/// An invitation, written `TOKEN@ADDR`.
fn parse_join(text: &str) -> Outcome<(String, SocketAddr)> {
    match text.rsplit_once('@') {
        Some((token, address)) if !token.is_empty() => {
            Ok((token.to_owned(), parse_address("join", address)?))
        }
        _ => Err(invalid("`join` is TOKEN@ADDR: what `esker peers invite` prints, then host:port")),
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new(Exit::Input, "ConfigInvalid", message).action("correct the setting")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Outcome<Settings> {
        Settings::of(SettingsFile::parse(text, Path::new("node.toml"))?)
    }

    #[test]
    fn a_file_says_what_the_command_line_says() {
        let text = "path = 'data'\nhttp = '[::1]:0'\npeers = ['000102030405060708090a0b0c0d0e0f@1.2.3.4:5']\n\
                    join = 'a@b@1.2.3.4:6'\nrole = 'respond-only'\nlag_threshold_ms = 500000\n";
        let settings = settings(text).unwrap();
        assert_eq!(settings.path, Path::new("data"));
        assert_eq!(settings.listen.to_string(), "127.0.0.1:0");
        assert_eq!(settings.peers.len(), 1);
        assert_eq!(settings.join.unwrap().0, "a@b");
        assert_eq!(settings.role, Role::RespondOnly);
        let clamped = settings.thresholds;
        assert_eq!((clamped.degraded_ms(), clamped.unhealthy_ms()), (500_000, 500_000));
    }

    #[test]
    fn every_mistake_in_a_file_is_named() {
        for (text, words) in [
            ("", "`path` is missing"),
            ("path = 'data'\nhtp = 'x'", "node.toml line 2"),
            ("path = 'data'\nhttp = '8080'", "`http` is an address"),
            ("path = 'data'\nhttp = '0.0.0.0:8080'", "open to other machines"),
            ("path = 'data'\nlisten = 'here'", "`listen` is an address"),
            ("path = 'data'\npeers = ['x']", "a peer is ID@ADDR"),
            ("path = 'data'\njoin = '@1.2.3.4:5'", "`join` is TOKEN@ADDR"),
            ("path = 'data'\nrole = 'king'", "node.toml line 2"),
            ("path = ", "node.toml line 1"),
        ] {
            let failure = settings(text).unwrap_err();
            assert!(failure.to_text().contains(words), "{text}: {}", failure.to_text());
            assert_eq!(failure.exit(), Exit::Input, "{text}");
        }
    }
}
