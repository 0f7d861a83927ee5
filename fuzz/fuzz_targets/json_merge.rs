//! Two documents, merged. See `bodies::json_merge`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::json_merge(data));
