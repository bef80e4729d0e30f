//! What tests and the demo need beyond cargo: Debian packages, installed on demand.

use std::process::{Command, Stdio};

/// A program some test needs, and the package that has it.
struct Need {
    program: &'static str,
    package: &'static str,
    used_for: &'static str,
}

const NEEDS: [Need; 7] = [
    Need {
        program: "ip",
        package: "iproute2",
        used_for: "nodes in network namespaces",
    },
    Need {
        program: "busybox",
        package: "busybox-static",
        used_for: "containers of the tests",
    },
    Need {
        program: "crun",
        package: "crun",
        used_for: "differential tests of the runtime",
    },
    Need {
        program: "runc",
        package: "runc",
        used_for: "differential tests of the runtime",
    },
    Need {
        program: "openssl",
        package: "openssl",
        used_for: "a second opinion on certificates",
    },
    Need {
        program: "dig",
        package: "bind9-dnsutils",
        used_for: "a second opinion on names",
    },
    Need {
        program: "tshark",
        package: "tshark",
        used_for: "a second opinion on what is on the wire",
    },
];

/// Installs what is missing, as far as this machine allows; tests skip, saying why, where not.
pub(crate) fn install() {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !present(need.program)).collect();
    if missing.is_empty() {
        return;
    }
    for need in &missing {
        eprintln!(
            "needs {} ({}): {}",
            need.program, need.package, need.used_for
        );
    }
    if !rustix::process::geteuid().is_root() || !present("apt-get") {
        eprintln!("cannot install them: needs root and apt-get; tests that use them will skip");
        return;
    }
    let apt = |args: &[&str]| {
        Command::new("apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let install = [&["install", "-y", "--no-install-recommends"][..], &packages].concat();
    let installed = apt(&install) || (apt(&["update"]) && apt(&install));
    if !installed {
        eprintln!("apt-get could not install {packages:?}; tests that use them will skip");
    }
}

fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Root's PATH may lack the system directories when started from a bare environment.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.into_iter().any(|dir| dir.join(program).is_file())
}
