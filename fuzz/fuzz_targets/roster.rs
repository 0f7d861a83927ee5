//! Records of a roster. See `bodies::roster`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::roster(data));
