//! Certificates. See `bodies::certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::certificate(data));
