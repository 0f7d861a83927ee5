//! A manifest and its edits. See `bodies::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::manifest(data));
