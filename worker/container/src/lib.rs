//! The container runtime: namespaces, cgroups, overlayfs, seccomp, and the shims.
//!
//! The daemon makes containers through [`client::Runtime`], which starts one [`shim`] for each. The
//! shim makes the container, is its parent, keeps its output and exit, and outlives the daemon. Both
//! are in this crate so that what passes between them ([`state`], [`control`], [`log`]) stands once;
//! the shim is built without the `client` feature and links no async runtime.
//!
//! Needs Linux 5.12, as root.

pub mod capability;
mod cgroup;
#[cfg(feature = "client")]
pub mod client;
pub mod control;
mod error;
mod init;
pub mod log;
pub mod private;
mod rootfs;
mod seccomp;
pub mod shim;
pub mod signal;
pub mod spec;
pub mod state;
mod syscall;
mod user;

#[cfg(feature = "client")]
pub use client::{Container, Error, Executed, Runtime, RuntimeOptions, ShimSource};
pub use error::{Fault, Step};
#[cfg(feature = "client")]
pub use rootfs::{ContentFile, content_mount};
pub use spec::ContainerSpec;
pub use state::ExitStatus;
