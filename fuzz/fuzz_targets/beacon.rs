//! Beacons on the local network. See `bodies::beacon`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::beacon(data));
