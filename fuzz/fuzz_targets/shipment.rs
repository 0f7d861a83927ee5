//! Shipments, in both stores. See `bodies::shipment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::shipment(data));
