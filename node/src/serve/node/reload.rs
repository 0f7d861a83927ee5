//! Reading the configuration again: what can change while a node serves.

use super::super::callers::Callers;
use super::super::health::LagThresholds;
use super::{Node, lock};
use crate::config::Config;
use crate::error::{Exit, Failure, Outcome};
use crate::logs;
use base::Error;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

impl Node {
    /// Reads the configuration again on another thread, and takes over what can change.
    pub(in super::super) fn reload_soon(self: Arc<Node>) {
        tokio::task::spawn_blocking(move || {
            let _inside = self.span.enter();
            if let Err(failure) = self.reload() {
                let (operation, code) = ("reload", failure.code());
                tracing::error!(
                    operation,
                    code,
                    failure = failure.to_text(),
                    "the configuration stays as it is"
                );
            }
        });
    }

    /// Reads the configuration again, and takes over what can change, of all datasets that it knows. Returns the
    /// names of settings that have changed and wait for the next start.
    pub(in super::super) fn reload(&self) -> Outcome<Vec<String>> {
        let config = (self.reread)()?;
        let callers = Callers::of(&config)?;
        if callers.need_no_token() && !self.is_on_loopback {
            let message = "without tokens everybody could ask what others than this machine reach";
            return Err(Failure::new(Exit::Input, "ConfigInvalid", message)
                .action("keep a token until the node listens on loopback"));
        }
        logs::change(&config)?;
        let callers = Arc::new(callers);
        let mut waiting = self.take_over(&config, callers.clone());
        for (name, door) in self.datasets.all() {
            match (config.datasets().get(name), door.node()) {
                (Some(config), Some(node)) => drop(node.take_over(config, callers.clone())),
                // It is being opened again, with the settings it had.
                (Some(_), None) => waiting.push(format!("datasets.{name}")),
                (None, _) => {}
            }
        }
        tracing::info!(target: logs::AUDIT, operation = "reload", "read the configuration again");
        for key in &waiting {
            tracing::warn!(
                operation = "reload",
                key,
                "this setting changes when the node starts again"
            );
        }
        Ok(waiting)
    }

    /// Takes over what can change of `config`. Returns what waits for the next start.
    fn take_over(&self, config: &Config, callers: Arc<Callers>) -> Vec<String> {
        *self.callers.write().unwrap_or_else(PoisonError::into_inner) = callers;
        *lock(&self.thresholds) = LagThresholds::of(config);
        self.healing.configure(config);
        self.limits.configure(config);
        self.breakers.configure(config.breakers());
        self.replicas.configure(config);
        self.schedule_backups(config);
        for (name, millis) in config.timeouts().all() {
            // What a configuration allows can be set.
            let _ = self.timeouts.set(name, Duration::from_millis(millis));
        }
        let waiting = {
            let mut before = lock(&self.config);
            let waiting = config.waits_for_start(&before);
            // What waits is compared with what is in effect, the next time as well.
            before.take_live(config);
            waiting
        };
        if let Some(checks) = self.checks.get() {
            // They look at once, by what is in effect now. A setting is not zero.
            let _ = checks.set_every(config.millis("health.every_ms"));
        }
        waiting
    }

    /// From now on backups are made by itself as `config` says.
    pub(super) fn schedule_backups(&self, config: &Config) {
        match self.directory.db().schedule_backups(config.backup_schedule()) {
            // A database that is about to be opened again has them then.
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => {
                tracing::error!(code = error.code(), %error, "backups are not made by themselves");
            }
        }
    }
}
