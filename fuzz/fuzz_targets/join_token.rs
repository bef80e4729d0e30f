#![no_main]
//! libFuzzer's entry to the target `join_token`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("join_token", data));
