#![no_main]
//! libFuzzer's entry to the target `transaction`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("transaction", data));
