//! Links the program as a static executable at a fixed address.
//!
//! A static-pie relocates itself at start, which dirties pages the process would then keep; and the
//! daemon holds the program in memory, of which symbols and line tables would be most.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let static_glibc = std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu")
        && std::env::var("CARGO_CFG_TARGET_FEATURE")
            .is_ok_and(|features| features.split(',').any(|feature| feature == "crt-static"));
    if static_glibc {
        // The last of the conflicting options wins over the `-static-pie` the compiler passes.
        println!("cargo:rustc-link-arg-bins=-no-pie");
        println!("cargo:rustc-link-arg-bins=-static");
        // The daemon holds the program in memory; symbols and line tables would be most of it.
        println!("cargo:rustc-link-arg-bins=-s");
    }
}
