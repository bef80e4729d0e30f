//! Makes a real image archive (OCI layout) around one static program.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What goes into an image.
pub struct ImageRecipe<'a> {
    /// `name:tag`.
    pub name: &'a str,
    /// The static program, put at `/bin/<its file name>`.
    pub program: &'a Path,
    /// What to run by default.
    pub command: &'a [&'a str],
    /// `NAME=value`.
    pub env: &'a [&'a str],
    /// The program and arguments that check whether a container of it works; none if empty.
    pub check: &'a [&'a str],
}

/// Time between two checks, in nanoseconds.
const CHECK_INTERVAL_NS: u64 = 200_000_000;

/// Writes the archive to `to`.
///
/// # Errors
/// When the program cannot be read or the archive not written.
pub fn write_archive(recipe: &ImageRecipe<'_>, to: &Path) -> Result<()> {
    let layer = layer(recipe.program)?;
    let diff_id = digest(&layer);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &layer)?;
    let packed = packed.finish()?;

    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Cmd": recipe.command, "Env": recipe.env, "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [],
    });
    if !recipe.check.is_empty() {
        let test: Vec<&str> = ["CMD"].iter().chain(recipe.check).copied().collect();
        config["config"]["Healthcheck"] = json!({ "Test": test, "Interval": CHECK_INTERVAL_NS });
    }
    let config = serde_json::to_vec(&config)?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": recipe.name,
        "org.opencontainers.image.ref.name": recipe.name,
    });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

    let file = std::fs::File::create(to).with_context(|| format!("making {}", to.display()))?;
    let mut archive = tar::Builder::new(file);
    let mut add = |path: &str, bytes: &[u8]| append(&mut archive, path, 0o644, bytes);
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", &index)?;
    for blob in [&manifest, &config, &packed] {
        add(&format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
    }
    archive.finish()?;
    Ok(())
}

fn layer(program: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let name = program
        .file_name()
        .context("a program has a file name")?
        .to_string_lossy();
    let mut archive = tar::Builder::new(Vec::new());
    for dir in ["bin/", "tmp/", "etc/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        archive.append_data(&mut header, dir, std::io::empty())?;
    }
    append(&mut archive, &format!("bin/{name}"), 0o755, &bytes)?;
    let passwd = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    append(&mut archive, "etc/passwd", 0o644, passwd.as_bytes())?;
    Ok(archive.into_inner()?)
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
