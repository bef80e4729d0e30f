#![no_main]
//! libFuzzer's entry to the target `root_bundle`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("root_bundle", data));
