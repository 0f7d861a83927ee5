//! Comparisons and audits. See `bodies::reconcile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::reconcile(data));
