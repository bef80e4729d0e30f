//! Docker's own swarm, measured in the same run by the scripts that made the noted figures.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::figures::Figures;

/// Where the scripts lie, seen from the root of the project.
const SCRIPTS: &str = "../shared/peer/docker-swarm";

/// What the scripts need, as Debian calls it.
const PACKAGES: [&str; 7] = [
    "docker.io",
    "iperf3",
    "crun",
    "busybox-static",
    "tini",
    "curl",
    "iproute2",
];

/// How the scripts run unless the environment says otherwise: one run of each test, and no long
/// wait for a quiet machine, which ours does not wait for either.
const SETTINGS: [(&str, &str); 2] = [("RUNS", "1"), ("DK_QUIET_MAX", "10")];

/// Runs these tests of Docker's bench and takes their figures.
pub(crate) fn run(tests: &[&str], figures: &mut Figures) -> Result<()> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(SCRIPTS);
    if !scripts.join("bench.py").is_file() {
        bail!("--peer needs Docker's bench at {SCRIPTS}, seen from the root of the project");
    }
    install()?;
    // The scripts write their results beside themselves: work on a copy.
    let copy = std::env::temp_dir().join(format!("swarm-peer-{}", std::process::id()));
    std::fs::create_dir_all(&copy)?;
    for entry in std::fs::read_dir(&scripts)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::write(copy.join(entry.file_name()), std::fs::read(entry.path())?)?;
        }
    }
    let mut bench = Command::new("python3");
    bench
        .current_dir(&copy)
        .arg("bench.py")
        .args(tests)
        .stdout(Stdio::piped());
    for (setting, value) in SETTINGS {
        if std::env::var_os(setting).is_none() {
            bench.env(setting, value);
        }
    }
    let mut child = bench.spawn().context("running Docker's bench")?;
    for line in BufReader::new(child.stdout.take().context("its stdout was asked for")?).lines() {
        figures.add_peer(&line?);
    }
    let status = child.wait()?;
    std::fs::remove_dir_all(&copy)?;
    if !status.success() {
        bail!("Docker's bench failed: {status}");
    }
    Ok(())
}

fn install() -> Result<()> {
    let daemon = ["/usr/sbin/dockerd", "/usr/bin/dockerd"]
        .iter()
        .any(|p| Path::new(p).is_file());
    if daemon && Path::new("/usr/bin/tini").is_file() {
        return Ok(());
    }
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        apt.status().is_ok_and(|status| status.success())
    };
    let install = [&["install", "-y", "--no-install-recommends"][..], &PACKAGES].concat();
    if !apt(&["update"]) || !apt(&install) {
        bail!("--peer needs the Debian packages {}", PACKAGES.join(" "));
    }
    Ok(())
}
