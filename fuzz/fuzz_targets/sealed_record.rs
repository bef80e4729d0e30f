#![no_main]
//! libFuzzer's entry to the target `sealed_record`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("sealed_record", data));
