//! The container runtime: namespaces, cgroups, overlayfs, seccomp, and the shims.
