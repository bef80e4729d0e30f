//! The shim program as it is executed: a sealed copy in memory.
//!
//! A copy, so that upgrading or removing the file does not touch containers that are being made;
//! sealed, so that a container that gets hold of `/proc/PID/exe` of its shim cannot write to it
//! (CVE-2019-5736).

use super::Error;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Name of the shim's executable file.
const FILE_NAME: &str = "swarm-shim";

/// Where the shim program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShimSource {
    /// The file `swarm-shim` beside the running executable.
    BesideExecutable,
    /// This file.
    Path(PathBuf),
}

/// The sealed copy.
#[derive(Debug)]
pub(super) struct ShimProgram {
    memory: OwnedFd,
}

impl ShimProgram {
    pub(super) fn load(source: &ShimSource) -> Result<Self, Error> {
        let path = match source {
            ShimSource::BesideExecutable => std::env::current_exe()
                .map_err(Error::io("find the running executable", "/proc/self/exe"))?
                .with_file_name(FILE_NAME),
            ShimSource::Path(path) => path.clone(),
        };
        let copy = || -> std::io::Result<OwnedFd> {
            let mut file = File::open(&path)?;
            let memory = new_memory()?;
            let mut copy = File::from(memory);
            std::io::copy(&mut file, &mut copy)?;
            let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
            fcntl_add_seals(&copy, seals)?;
            Ok(copy.into())
        };
        Ok(Self {
            memory: copy().map_err(Error::io("load the shim from", &path))?,
        })
    }

    /// A path that executes it, in this process and in one it is just spawning. The descriptor is
    /// close-on-exec, which the kernel only honours after it has opened the program.
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.memory.as_raw_fd().to_string())
    }
}

/// An empty executable memory file. Kernels before 6.3 do not know the flag that asks for the
/// execute permission they give anyway.
fn new_memory() -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(FILE_NAME, flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create(FILE_NAME, flags),
        result => result,
    }
}
