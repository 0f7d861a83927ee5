//! What a node is started with, understood.

use super::LagThresholds;
use crate::config::Config;
use crate::error::{Exit, Failure, Outcome};
use crate::replicas::{PeerAddress, Role};
use esker_node::resilience::Timeouts;
use replication::link::Token;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The directory.
    pub(crate) path: PathBuf,
    /// Where peers connect.
    pub(crate) listen: SocketAddr,
    /// Where users connect.
    pub(crate) http: SocketAddr,
    /// The first peers.
    pub(crate) peers: Vec<PeerAddress>,
    /// An invitation: token and address.
    pub(crate) join: Option<(Token, SocketAddr)>,
    /// What the node is to its peers.
    pub(crate) role: Role,
    /// Whether the end of standard input stops it.
    pub(crate) end_with_input: bool,
    /// When a peer lags.
    pub(crate) thresholds: LagThresholds,
    /// How long what may take: those of the process, which change while it runs.
    pub(crate) timeouts: Timeouts,
    /// Everything else.
    pub(crate) config: Config,
    /// The name of the dataset; none for the main one.
    pub(crate) dataset: Option<String>,
    /// Further datasets in the same process.
    pub(crate) datasets: Vec<Settings>,
}

impl Settings {
    /// Understands `config`.
    pub(crate) fn of(config: Config) -> Outcome<Settings> {
        let timeouts = config.timeouts();
        let datasets = config.datasets().iter().map(|(name, config)| {
            let of_dataset = Settings::of_one(config.clone(), &timeouts, Vec::new())?;
            Ok(Settings { dataset: Some(name.clone()), ..of_dataset })
        });
        let datasets = datasets.collect::<Outcome<_>>()?;
        Settings::of_one(config, &timeouts, datasets)
    }

    /// Understands the `config` of one database.
    fn of_one(config: Config, timeouts: &Timeouts, datasets: Vec<Settings>) -> Outcome<Settings> {
        let path = config.text("path").ok_or_else(|| {
            Failure::new(Exit::Usage, "Usage", "no directory is given: `path` is missing")
                .action("give --path, or path in a file with --config")
        })?;
        let address = |key| config.address(key).ok_or_else(|| bug(key));
        Ok(Settings {
            path: path.into(),
            listen: address("listen")?,
            http: address("http")?,
            peers: config.list("peers").iter().map(|peer| peer.parse()).collect::<Outcome<_>>()?,
            join: config.invitation("join"),
            role: match config.text("role") {
                Some("replica") => Role::Replica,
                Some("respond-only") => Role::RespondOnly,
                _ => Role::Writer,
            },
            end_with_input: config.flag("end_with_input"),
            thresholds: LagThresholds::of(&config),
            timeouts: timeouts.clone(),
            config,
            dataset: None,
            datasets,
        })
    }
}

impl LagThresholds {
    /// The thresholds of `config`.
    pub(crate) fn of(config: &Config) -> LagThresholds {
        LagThresholds::new(
            config.number("lag_threshold_ms"),
            config.number("critical_lag_threshold_ms"),
        )
        .with_replica_ms(config.number("replica_lag_threshold_ms"))
    }
}

/// A setting whose kind does not keep what it promises.
fn bug(key: &str) -> Failure {
    Failure::new(Exit::Bug, "Bug", format!("{key} was not checked"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use std::path::Path;

    /// An invitation of a node that nobody has.
    const TOKEN: &str =
        "ag4vhrt6i4iy7w76qybszdt6v4qfzekqlyfomfoxvxqvt2s7fdn53dhoi5h5jhlryjnj2lovfiqrbpe7cktno";

    fn settings(text: &str) -> Outcome<Settings> {
        let mut layers = Layers::default();
        layers.read_file(text, Path::new("node.toml"));
        Settings::of(layers.settle().unwrap())
    }

    #[test]
    fn a_file_says_what_the_command_line_says() {
        let text = format!(
            "path = 'data'\nhttp = '[::1]:0'\npeers = ['000102030405060708090a0b0c0d0e0f@1.2.3.4:5']\n\
                    join = '{TOKEN}@1.2.3.4:6'\nrole = 'respond-only'\nlag_threshold_ms = 500000\n"
        );
        let settings = settings(&text).unwrap();
        assert_eq!(settings.path, Path::new("data"));
        assert_eq!(settings.listen.to_string(), "127.0.0.1:0");
        assert_eq!(settings.peers.len(), 1);
        let (token, address) = settings.join.unwrap();
        assert_eq!((&*token.reveal(), address), (TOKEN, "1.2.3.4:6".parse().unwrap()));
        assert_eq!(settings.role, Role::RespondOnly);
        let clamped = settings.thresholds;
        assert_eq!((clamped.degraded_ms(), clamped.unhealthy_ms()), (500_000, 500_000));
    }

    #[test]
    fn a_node_needs_a_directory() {
        let failure = settings("").unwrap_err();
        assert!(failure.to_text().contains("`path` is missing"), "{}", failure.to_text());
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
