#![no_main]
//! libFuzzer's entry to the target `unlock_key`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("unlock_key", data));
