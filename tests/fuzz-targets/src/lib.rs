//! What hostile bytes may reach, each as a function that must not panic, hang or grow without end.
//!
//! `cargo xtask fuzz` drives them with libFuzzer where that is installed (`fuzz/`); the tests here
//! drive the same functions on stable Rust, with the committed corpus and with random bytes.

mod identity;
mod records;
mod requests;

/// What a target does with bytes.
pub type Target = fn(&[u8]);

/// Every target: its name, and what it does with bytes.
pub const TARGETS: &[(&str, Target)] = &[
    ("join_token", identity::join_token),
    ("unlock_key", identity::unlock_key),
    ("key_file", identity::key_file),
    ("csr", identity::csr),
    ("root_bundle", identity::root_bundle),
    ("rpc_request", requests::rpc_request),
    ("transaction", records::transaction),
    ("snapshot", records::snapshot),
    ("sealed_record", records::sealed_record),
];

/// Runs one target.
///
/// # Panics
/// When there is none of this name, or the target finds something.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("there is no target {name}"));
    target(data);
}
