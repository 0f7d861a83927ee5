//! How long something may take, asked each time that it begins.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long something may take. It may change while links are up: whatever begins asks again, and what has begun
/// keeps what it was told. Clones are the same limit.
#[derive(Clone)]
pub struct Limit {
    ask: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Limit {
    /// A limit that `ask` knows at any time. It returns at once.
    pub fn asked_of(ask: impl Fn() -> Duration + Send + Sync + 'static) -> Limit {
        Limit { ask: Arc::new(ask) }
    }

    /// How long it is now.
    pub fn get(&self) -> Duration {
        (self.ask)()
    }
}

impl From<Duration> for Limit {
    /// A limit that stays as it is.
    fn from(limit: Duration) -> Limit {
        Limit::asked_of(move || limit)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
