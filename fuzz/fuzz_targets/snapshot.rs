#![no_main]
//! libFuzzer's entry to the target `snapshot`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("snapshot", data));
