#![no_main]
//! libFuzzer's entry to the target `rpc_request`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::run("rpc_request", data));
