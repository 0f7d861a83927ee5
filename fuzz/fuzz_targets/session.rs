//! A session whose peer says anything. See `bodies::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::session(data));
