//! Where the built programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Directory of the built programs, set by `cargo xtask`.
pub const BIN_DIR_VAR: &str = "SWARM_BIN_DIR";

/// The programs a lab runs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The daemon.
    pub swarmd: PathBuf,
    /// The command line.
    pub swarmctl: PathBuf,
    /// The parent of a container.
    pub shim: PathBuf,
    /// The example service.
    pub web: PathBuf,
    /// Pid 1 of a lab's node.
    pub node_init: PathBuf,
}

impl Programs {
    /// The programs in `dir`.
    ///
    /// # Errors
    /// Naming the first that is missing.
    pub fn in_dir(dir: &Path) -> Result<Self> {
        let find = |name: &str| {
            let path = dir.join(name);
            if path.is_file() {
                Ok(path)
            } else {
                bail!("{} is not built", path.display())
            }
        };
        Ok(Self {
            swarmd: find("swarmd")?,
            swarmctl: find("swarmctl")?,
            shim: find("swarm-shim")?,
            web: find("web")?,
            node_init: find("node-init")?,
        })
    }

    /// The programs named by `SWARM_BIN_DIR`, else those beside the running test.
    ///
    /// # Errors
    /// When they are not there.
    pub fn find() -> Result<Self> {
        if let Some(dir) = std::env::var_os(BIN_DIR_VAR) {
            return Self::in_dir(Path::new(&dir));
        }
        let exe = std::env::current_exe().context("looking for the programs beside the test")?;
        // target/<triple>/<profile>/deps/<test>
        let dir = exe
            .ancestors()
            .nth(2)
            .context("a test lies in a target directory")?;
        Self::in_dir(dir)
    }
}
