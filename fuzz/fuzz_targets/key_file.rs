#![no_main]
//! libFuzzer's entry to the target `key_file`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("key_file", data));
