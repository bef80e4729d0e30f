#![no_main]
//! libFuzzer's entry to the target `csr`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("csr", data));
