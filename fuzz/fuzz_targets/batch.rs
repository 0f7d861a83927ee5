//! Records of a commit. See `bodies::batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::batch(data));
