//! Calls of what fails for reasons of its own: tried again, and left alone when they fail again and again.

use super::ending::Ending;
use crate::error::{Exit, Failure};
use base::Error;
use esker_node::resilience::{Breakers, Guarded, Retry};

/// Makes `call` through the breaker `name` of `breakers`, and again as `retry` says. May block. What was called
/// off, by who asked or because the node ends, is no failure of what was called.
pub(super) fn tried<T>(
    breakers: &Breakers,
    ending: &Ending,
    name: &str,
    retry: Retry,
    call: impl Fn() -> Result<T, Error>,
) -> Result<T, Guarded<Error>> {
    retry.run(std::thread::sleep, |attempt| {
        if ending.check().is_err() {
            return Err(Guarded::Failed(Error::Closed));
        }
        let tried = breakers.call_unless(name, is_called_off, &call);
        if let Err(Guarded::Failed(error)) = &tried
            && !is_called_off(error)
        {
            // When the breaker opens, this is the reason.
            let (code, number) = (error.code(), attempt.number);
            tracing::warn!(breaker = name, code, attempt = number, %error, "a call has failed");
        }
        tried
    })
}

/// What whoever asked is told of a call that failed, or was left alone by the breaker `name`.
pub(super) fn refused(name: &str, guarded: Guarded<Error>) -> Failure {
    let failure = match guarded {
        Guarded::Failed(error) => Failure::from(error),
        Guarded::Rejected { .. } => {
            let message = format!("{name} has failed too often and is left alone for a while");
            Failure::new(Exit::Other, "BreakerOpen", message)
                .action("see the log for the reason; ask again later, or reset the breaker")
        }
    };
    failure.during(name.to_owned())
}

/// Whether nobody wants the result any more.
fn is_called_off(error: &Error) -> bool {
    matches!(error, Error::Cancelled | Error::Closed)
}

#[cfg(test)]
mod tests {
    use super::super::ending::Interest;
    use super::*;
    use base::SystemClock;
    use std::cell::Cell;
    use std::sync::Arc;
    use std::time::Duration;

    const AT_ONCE: Retry = Retry {
        tries: 3,
        pauses: esker_node::resilience::Pauses::Fixed,
        first: Duration::ZERO,
        cap: Duration::ZERO,
        jitter: esker_node::resilience::Jitter::None,
        per_try: None,
    };

    /// How often `make` is called, and what is said of it in the end.
    fn calls(breakers: &Breakers, make: impl Fn() -> Error) -> (u32, Failure) {
        let (_interest, ending) = Interest::new();
        let count = Cell::new(0);
        let failed = tried(breakers, &ending, "store", AT_ONCE, || {
            count.set(count.get() + 1);
            Err::<(), _>(make())
        });
        (count.get(), refused("store", failed.unwrap_err()))
    }

    #[test]
    fn impatient_clients_open_no_breaker_and_are_not_served_again() {
        let breakers = Breakers::new(Arc::new(SystemClock::default()));
        for make in [|| Error::Cancelled, || Error::Closed] {
            for _ in 0..10 {
                let (count, failure) = calls(&breakers, make);
                assert_eq!((count, failure.code()), (1, make().code()));
            }
        }
        let report = breakers.reports()["store"];
        assert_eq!((report.state as u8, report.failures, report.rejected), (0, 0, 0));
    }

    #[test]
    fn what_fails_is_tried_again_until_it_is_left_alone() {
        let breakers = Breakers::new(Arc::new(SystemClock::default()));
        let full = || Error::DiskFull { path: "/store".into() };
        assert_eq!(calls(&breakers, full).0, 3);
        let (count, failure) = calls(&breakers, full);
        assert_eq!((count, failure.code()), (2, "BreakerOpen"));
        assert_eq!(breakers.reports()["store"].failures, 5);
    }
}
