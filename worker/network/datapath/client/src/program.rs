//! The datapath program as it is executed: a sealed copy in memory.
//!
//! A copy, so that upgrading or removing the file does not touch a process that runs; sealed, so
//! that nobody who gets hold of `/proc/PID/exe` can write to it.

use crate::Error;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name of the executable file, and of the process.
const FILE_NAME: &str = "swarm-datapath";

/// Bytes of the digest that tell releases apart.
const RELEASE_BYTES: usize = 8;

/// Where the datapath program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramSource {
    /// The file `swarm-datapath` beside the running executable.
    BesideExecutable,
    /// This file.
    Path(PathBuf),
}

/// The sealed copy.
#[derive(Debug)]
pub(crate) struct Program {
    memory: OwnedFd,
    release: String,
}

impl Program {
    /// Copies the program. Blocks for a few milliseconds.
    pub(crate) fn load(source: &ProgramSource) -> Result<Self, Error> {
        let load = |path: &Path| -> io::Result<Self> {
            let bytes = std::fs::read(path)?;
            let mut copy = std::fs::File::from(new_memory()?);
            copy.write_all(&bytes)?;
            let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
            fcntl_add_seals(&copy, seals)?;
            let mut release = String::new();
            for byte in &Sha256::digest(&bytes)[..RELEASE_BYTES] {
                let _ = write!(release, "{byte:02x}");
            }
            Ok(Self {
                memory: copy.into(),
                release,
            })
        };
        let path = match source {
            ProgramSource::Path(path) => path.clone(),
            ProgramSource::BesideExecutable => {
                let running = std::env::current_exe().map_err(|source| Error::Load {
                    path: PathBuf::from("/proc/self/exe"),
                    source,
                })?;
                running.with_file_name(FILE_NAME)
            }
        };
        load(&path).map_err(|source| Error::Load { path, source })
    }

    /// Digest of the program.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// Starts a process that will be found at `socket`, and waits until it has left this process's
    /// children. Returns a first connection to it. Blocks for a few milliseconds.
    pub(crate) fn start(&self, socket: &Path, takes_over: bool) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(self.path());
        command.arg0(FILE_NAME).arg("--socket").arg(socket);
        command.arg("--release").arg(&self.release);
        if takes_over {
            command.arg("--take-over");
        }
        let status = command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("it ended at once: {status}")));
        }
        ours.set_nonblocking(true)?;
        Ok(ours)
    }

    /// A path that executes it, in this process and in one it is just spawning. The descriptor is
    /// close-on-exec, which the kernel only honours after it has opened the program.
    fn path(&self) -> PathBuf {
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
