//! Panics that are caught, and how a panic hook tells them from those that are not.
//!
//! A hook runs before anything unwinds. One that ends the process would end it where somebody stands ready to
//! catch, too. So whoever catches does it by [`catch`], and such a hook asks [`is_caught`] first.
//!
//! ```text
//! catch ──> work panics ──> hook: is_caught ──yes, notes the place──> unwinds ──> Caught { place }
//!                                └──no: ends the process
//! ```

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many calls of [`catch`] this thread is in.
    static CATCHERS: Cell<usize> = const { Cell::new(0) };
    /// Where the panic that is on its way to the innermost of them began.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was caught. It says where it began, if a hook has noted that, and never what it said: that may
/// hold a key or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    place: Option<String>,
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "panicked at {place}"),
            None => f.write_str("panicked"),
        }
    }
}

impl std::error::Error for Caught {}

/// Does `work`, and catches its panic. What it leaves half-done is for the caller to judge.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Caught> {
    // A destructor may catch as well, while an outer panic is on its way.
    let outer = PLACE.take();
    CATCHERS.set(CATCHERS.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    CATCHERS.set(CATCHERS.get() - 1);
    let place = PLACE.replace(outer);
    done.map_err(|_| Caught { place })
}

/// Whether the panic of this thread that began at `place` will be caught. For panic hooks, once a panic: a
/// second one on the way of the first is caught by nobody.
pub fn is_caught(place: String) -> bool {
    let is_expected = CATCHERS.try_with(Cell::get).is_ok_and(|catchers| catchers > 0);
    let before = PLACE.try_with(|noted| noted.borrow_mut().replace(place));
    is_expected && matches!(before, Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::resume_unwind;

    /// Panics without any hook, as if one had been asked.
    fn panic_at(place: &str) -> bool {
        assert!(is_caught(place.to_owned()), "somebody catches");
        resume_unwind(Box::new("secret"))
    }

    fn of(place: &str) -> Caught {
        Caught { place: Some(place.to_owned()) }
    }

    #[test]
    fn a_panic_is_caught_where_somebody_catches_and_nowhere_else() {
        assert!(!is_caught("before".to_owned()));
        assert_eq!(catch(|| 7), Ok(7));
        let caught = catch(|| panic_at("a.rs:1:2"));
        assert_eq!(caught, Err(of("a.rs:1:2")));
        assert_eq!(of("a.rs:1:2").to_string(), "panicked at a.rs:1:2");
        assert!(!is_caught("behind".to_owned()));
        let on_another = catch(|| std::thread::spawn(|| is_caught("other".to_owned())).join());
        assert!(!on_another.unwrap().unwrap(), "each thread for itself");
    }

    #[test]
    fn the_inner_panic_goes_to_the_inner_catcher() {
        let outer = catch(|| {
            assert_eq!(catch(|| panic_at("inner")), Err(of("inner")));
            assert_eq!(catch(|| panic_at("again")), Err(of("again")));
            panic_at("outer")
        });
        assert_eq!(outer, Err(of("outer")));
    }

    #[test]
    fn a_panic_on_the_way_of_another_is_caught_by_nobody_unless_it_is_deeper() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                assert!(!is_caught("second".to_owned()));
                assert_eq!(catch(|| panic_at("deeper")), Err(of("deeper")));
            }
        }
        let caught = catch(|| {
            let _late = Late;
            panic_at("first")
        });
        assert!(caught.is_err());
    }

    #[test]
    fn without_a_hook_it_is_not_known_where() {
        let caught: Result<(), Caught> = catch(|| resume_unwind(Box::new("")));
        assert_eq!(caught, Err(Caught { place: None }));
        assert_eq!(Caught { place: None }.to_string(), "panicked");
    }
}
