//! Compiles every file under `proto/` without needing protoc, and lists every RPC.

use std::fmt::Write as _;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir("proto")? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(&files, ["proto"])?;
    let mut rpcs = String::from("&[\n");
    let mut arms = String::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                let path = format!("/{package}.{service}/{}", method.name());
                writeln!(rpcs, "    \"{path}\",")?;
                let request = method.input_type().replace('.', "::");
                writeln!(
                    arms,
                    "\"{path}\" => Some(crate::packages{request}::decode(bytes).map(drop)),"
                )?;
            }
        }
    }
    rpcs.push(']');
    std::fs::write(
        PathBuf::from(std::env::var("OUT_DIR")?).join("rpcs.rs"),
        rpcs,
    )?;
    std::fs::write(
        PathBuf::from(std::env::var("OUT_DIR")?).join("decode_request.rs"),
        format!("match path {{\n{arms}_ => None,\n}}"),
    )?;
    tonic_prost_build::configure()
        // Messages are compared by their bytes: those of a map come in order.
        .btree_map(".")
        .include_file("packages.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
