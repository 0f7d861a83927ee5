//! Settings that go together.

/// Their names.
pub(super) const NAMES: &[&str] = &[
    "balanced",
    "read-optimized",
    "write-optimized",
    "low-memory",
    "max-durability",
    "development",
];

/// What the preset `name` sets, besides the defaults.
pub(super) fn settings_of(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "read-optimized" => {
            &[("engine.memory_bytes", "1 GiB"), ("engine.memtable_bytes", "32 MiB")]
        }
        "write-optimized" => &[
            ("engine.memory_bytes", "768 MiB"),
            ("engine.memtable_bytes", "128 MiB"),
            ("engine.table_bytes", "128 MiB"),
            ("engine.segment_bytes", "128 MiB"),
            ("engine.sync", "periodic"),
        ],
        "low-memory" => &[
            ("engine.memory_bytes", "32 MiB"),
            ("engine.memtable_bytes", "4 MiB"),
            ("engine.table_bytes", "16 MiB"),
            ("engine.segment_bytes", "4 MiB"),
            ("engine.reserve_bytes", "16 MiB"),
        ],
        "max-durability" => &[("engine.sync", "sync"), ("engine.scrub_every_seconds", "86400")],
        "development" => &[
            ("engine.memory_bytes", "64 MiB"),
            ("engine.memtable_bytes", "8 MiB"),
            ("engine.segment_bytes", "4 MiB"),
            ("engine.reserve_bytes", "4 MiB"),
            ("engine.sync", "async"),
            ("log.level", "debug"),
            ("timeouts.profile", "test"),
        ],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Key;
    use super::*;

    #[test]
    fn what_presets_set_is_allowed() {
        for name in NAMES {
            for (key, words) in settings_of(name) {
                let known = Key::named(key).unwrap();
                assert!(known.kind.read(words).is_some(), "{name}: {key} = {words}");
            }
        }
        assert!(settings_of("balanced").is_empty());
    }
}
