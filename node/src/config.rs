//! The configuration of a node: where each setting comes from, and every mistake in it at once.
//!
//! ```text
//! defaults < preset < file < environment < command line       the right one wins
//! ```
//!
//! ```text
//! keys     every setting: name, kind, default, what it is for, whether it can change while a node runs
//! value    kinds and values: what is allowed, and how it is read
//! file     TOML -> settings with their lines
//! layers   the sources, one over the other
//! datasets settings of further databases in the same process
//! presets  settings that go together
//! typed    settings -> options of the engine and the rest
//! text     a commented file, and the list of what is in effect
//! ```
//!
//! A setting `engine.memory_bytes` is the key `memory_bytes` of the table `[engine]` in a file, and
//! `ESKER_ENGINE_MEMORY_BYTES` in the environment.

mod datasets;
mod file;
mod keys;
mod layers;
mod notes;
mod presets;
mod text;
mod typed;
mod value;

pub(crate) use self::datasets::MAIN;
pub(crate) use self::layers::{Config, Layers, Mistake, refuse};
pub(crate) use self::notes::notes;
pub(crate) use self::text::{effective, template};
pub(crate) use self::typed::token_in;
pub(crate) use self::value::{FILE_TOKEN, resolved_by_json, token_of};

/// The environment of this process, as far as it is text.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text)
}
