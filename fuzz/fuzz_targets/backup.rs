//! Backup records of hostile bytes, and stores that are mutated. See `bodies::backup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::backup(data));
