//! A whole table. See `bodies::table_open`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::table_open(data));
