//! Chunks of a state, and the members that a joiner is told. See `bodies::state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::state(data));
