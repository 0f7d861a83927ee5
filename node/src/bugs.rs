//! What a panic does to a process.
//!
//! ```text
//! nobody catches it   it is reported, and the process ends: what the thread left half-done is unknown
//! somebody does       who caught it says what follows; the process goes on
//! ```
//!
//! Who catches: the threads of the engine ([`base::panics`]), checks of the health, resolvers of conflicts, backups,
//! and conversations with peers.

use base::panics::is_caught;

/// Makes every panic that nobody catches, of any thread, end the process with `exit`, once `report` was told
/// what it said and where.
pub fn end_the_process(exit: i32, report: impl Fn(String) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if is_caught(place.clone()) {
            return;
        }
        let payload = info.payload();
        let words = payload.downcast_ref::<&str>().copied();
        let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        report(format!("{} ({place})", words.unwrap_or("a panic")));
        std::process::exit(exit);
    }));
}
