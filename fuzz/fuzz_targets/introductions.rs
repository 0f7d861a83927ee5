//! Tokens, fingerprints and changes of keys. See `bodies::introductions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::introductions(data));
