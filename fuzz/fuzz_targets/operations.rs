//! A database against a model. See `bodies::operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::operations(data));
