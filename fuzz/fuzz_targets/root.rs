//! Two root files of hostile bytes. See `bodies::root`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::root(data));
