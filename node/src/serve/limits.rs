//! How much users may ask for: requests a second, bytes in all, deletes at a time. None by default, but for the
//! last.
//!
//! ```text
//! limits.requests_per_second  of data, by who asks; a burst of one second's; then 429 `RateLimited`
//! limits.storage_bytes        tables and memory; from there on puts are refused with `QuotaExceeded`, deletes
//!                             go on
//! limits.deletes_per_batch    more have to be meant: the header `esker-deletes` says how many, or `BulkDelete`
//! ```

use crate::config::Config;
use crate::error::{Exit, Failure, Outcome};
use crate::wire::DELETES_HEADER;
use axum::http::HeaderMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What users may ask for. Zero is no limit.
#[derive(Debug, Default)]
pub(super) struct Limits {
    requests_per_second: AtomicU64,
    storage_bytes: AtomicU64,
    deletes_per_batch: AtomicU64,
    /// What each caller may still ask for at once. Callers have names in the settings, so they are few.
    buckets: Mutex<BTreeMap<String, Bucket>>,
    /// Whether there is no room for puts.
    is_out_of_room: AtomicBool,
}

/// What a caller may still ask for at a time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl Limits {
    /// As `config` says.
    pub(super) fn of(config: &Config) -> Limits {
        let limits = Limits::default();
        limits.configure(config);
        limits
    }

    /// From here on as `config` says.
    pub(super) fn configure(&self, config: &Config) {
        let of = |key: &str| config.number(&format!("limits.{key}"));
        self.requests_per_second.store(of("requests_per_second"), Ordering::Relaxed);
        self.storage_bytes.store(of("storage_bytes"), Ordering::Relaxed);
        self.deletes_per_batch.store(of("deletes_per_batch"), Ordering::Relaxed);
    }

    /// Takes a request of `caller` at `now`, unless it has asked too often.
    pub(super) fn admit(&self, caller: &str, now: Duration) -> Outcome {
        let rate = self.requests_per_second.load(Ordering::Relaxed);
        if rate == 0 {
            return Ok(());
        }
        let burst = rate as f64;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = match buckets.get_mut(caller) {
            Some(bucket) => bucket,
            None => buckets.entry(caller.to_owned()).or_insert(Bucket { left: burst, at: now }),
        };
        let since = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * burst).min(burst);
        bucket.at = now;
        if bucket.left < 1.0 {
            let message = format!("{caller} asks more often than {rate} times a second");
            return Err(Failure::new(Exit::Other, "RateLimited", message)
                .action("ask less often, or several things at once"));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    /// Notes how much is stored.
    pub(super) fn note_stored(&self, bytes: u64) {
        let most = self.storage_bytes.load(Ordering::Relaxed);
        let is_out = most > 0 && bytes >= most;
        if self.is_out_of_room.swap(is_out, Ordering::Relaxed) != is_out {
            match is_out {
                true => tracing::warn!(bytes, most, "the quota is used up: puts are refused"),
                false => tracing::info!(bytes, most, "there is room in the quota again"),
            }
        }
    }

    /// Refuses puts where the quota is used up.
    pub(super) fn check_room(&self) -> Outcome {
        if !self.is_out_of_room.load(Ordering::Relaxed) {
            return Ok(());
        }
        let most = self.storage_bytes.load(Ordering::Relaxed);
        let message = format!("the database holds as much as it may: {most} bytes");
        Err(Failure::new(Exit::Denied, "QuotaExceeded", message)
            .action("delete something, or let an operator raise limits.storage_bytes"))
    }

    /// Refuses that many deletes at once, unless `headers` say that they are meant.
    pub(super) fn check_deletes(&self, deletes: usize, headers: &HeaderMap) -> Outcome {
        let most = self.deletes_per_batch.load(Ordering::Relaxed);
        if most == 0 || deletes as u64 <= most {
            return Ok(());
        }
        let meant = headers.get(DELETES_HEADER).and_then(|value| value.to_str().ok());
        if meant.and_then(|text| text.parse().ok()) == Some(deletes) {
            return Ok(());
        }
        let message = format!("a batch has {deletes} deletes, more than {most}");
        let action = format!("send the header `{DELETES_HEADER}: {deletes}` if they are meant");
        Err(Failure::new(Exit::Input, "BulkDelete", message).action(action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use axum::http::HeaderValue;
    use std::path::Path;

    fn limits(text: &str) -> Limits {
        let mut layers = Layers::default();
        layers.read_file(text, Path::new("node.toml"));
        Limits::of(&layers.settle().unwrap())
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_caller_has_a_burst_and_then_a_rate_of_its_own() {
        let limits = limits("[limits]\nrequests_per_second = 10\n");
        let asked = |caller: &str, now| limits.admit(caller, at(now)).is_ok();
        assert_eq!((0..20).filter(|_| asked("ada", 0)).count(), 10);
        assert!(asked("bob", 0), "who asks much does not take from others");
        assert!(!asked("ada", 99) && asked("ada", 189) && !asked("ada", 189));
        assert_eq!((0..20).filter(|_| asked("ada", 60_000)).count(), 10, "no more is saved up");
        let refused = limits.admit("ada", at(60_000)).unwrap_err();
        assert_eq!(refused.code(), "RateLimited");
    }

    #[test]
    fn without_settings_only_many_deletes_have_to_be_meant() {
        let limits = limits("");
        assert!((0..100_000).all(|_| limits.admit("ada", at(0)).is_ok()));
        limits.note_stored(u64::MAX);
        assert!(limits.check_room().is_ok());
        let mut headers = HeaderMap::new();
        assert!(limits.check_deletes(10_000, &headers).is_ok());
        assert!(limits.check_deletes(10_001, &headers).is_err());
        for (said, is_meant) in [("10001", true), ("10002", false), ("yes", false)] {
            headers.insert(DELETES_HEADER, HeaderValue::from_static(said));
            assert_eq!(limits.check_deletes(10_001, &headers).is_ok(), is_meant, "{said}");
        }
    }

    #[test]
    fn puts_are_refused_while_the_quota_is_used_up() {
        let limits = limits("[limits]\nstorage_bytes = '2 MiB'\n");
        limits.note_stored(2 << 20);
        assert_eq!(limits.check_room().unwrap_err().code(), "QuotaExceeded");
        limits.note_stored((2 << 20) - 1);
        assert!(limits.check_room().is_ok());
    }
}
