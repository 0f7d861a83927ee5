//! Work that operators ask of the disk of the database: flushes, merges, checkpoints, scrubs. Once the disk has
//! refused it again and again, it is left alone for a while.
//!
//! What users write does not go through this: where that fails, the engine refuses writes by itself. Nor does the
//! question how full the disk is: a disk that fails answers that as well as a good one.

use super::node::Node;
use crate::error::{Exit, Failure, Outcome};
use base::Error;
use esker_node::resilience::{Breakers, Guarded};
use std::io::ErrorKind;

/// The breaker of that work.
pub(super) const DISK: &str = "disk";

/// Does `work` on the disk of `node`, unless the breaker is open. May block.
pub(super) fn on_disk<T>(node: &Node, work: impl FnOnce() -> Result<T, Error>) -> Outcome<T> {
    through(node.breakers(), work)
}

fn through<T>(breakers: &Breakers, work: impl FnOnce() -> Result<T, Error>) -> Outcome<T> {
    let is_of_others = |error: &Error| !is_of_disk(error);
    let done = breakers.call_unless(DISK, is_of_others, work);
    done.map_err(|guarded| match guarded {
        Guarded::Failed(error) => {
            if is_of_disk(&error) {
                tracing::warn!(breaker = DISK, code = error.code(), %error, "a call has failed");
            }
            Failure::from(error)
        }
        Guarded::Rejected { .. } => {
            let message = "the disk has failed too often and is left alone for a while";
            Failure::new(Exit::Other, "BreakerOpen", message)
                .action("see the log for the reason; ask again later, or reset the breaker")
        }
    })
}

/// Whether it says something about the disk: not if it is only full, nor if what was asked for can not be.
fn is_of_disk(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    let of_request = [
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::CrossesDevices,
        ErrorKind::NotADirectory,
        ErrorKind::IsADirectory,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidFilename,
        ErrorKind::Interrupted,
    ];
    !of_request.contains(&source.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemClock;
    use std::io;
    use std::sync::Arc;

    fn ask(breakers: &Breakers, make: impl FnOnce() -> Error) -> &'static str {
        let failure = through(breakers, || Err::<(), _>(make())).unwrap_err();
        if failure.code() == "BreakerOpen" { "left alone" } else { "asked" }
    }

    #[test]
    fn only_what_the_disk_refuses_leaves_it_alone() {
        let breakers = Breakers::new(Arc::new(SystemClock::default()));
        for _ in 0..3 {
            let kinds = [ErrorKind::NotFound, ErrorKind::CrossesDevices, ErrorKind::AlreadyExists];
            for kind in kinds {
                assert_eq!(ask(&breakers, || Error::io("link", "a", kind.into())), "asked");
            }
            assert_eq!(ask(&breakers, || Error::DiskFull { path: "a".into() }), "asked");
            assert_eq!(ask(&breakers, || Error::Cancelled), "asked");
        }
        let fails = || Error::io("sync", "a", io::Error::from_raw_os_error(5));
        for _ in 0..5 {
            assert_eq!(ask(&breakers, fails), "asked");
        }
        assert_eq!(ask(&breakers, fails), "left alone");
        assert_eq!(breakers.reports()[DISK].failures, 5);
    }
}
