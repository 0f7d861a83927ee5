//! Catalogs of tables, and edits of a manifest. See `bodies::catalog`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::catalog(data));
