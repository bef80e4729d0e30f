//! Network namespaces of a lab, and doing something inside one.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `ip` with these words.
pub(crate) fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(args)
        .output()
        .context("running ip")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Runs `work` on a thread that has moved into the namespace of this name.
pub(crate) fn inside<T: Send>(
    namespace: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    inside_path(&format!("/run/netns/{namespace}"), work)
}

/// The same in the namespace this file stands for.
pub(crate) fn inside_path<T: Send>(
    path: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    within(&file, work)
}

/// The same in an open namespace.
pub(crate) fn within<T: Send>(
    namespace: &File,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| move_into(namespace).and_then(|()| work()))
            .join()
            .expect("work inside a namespace does not panic")
    })
}

/// Runs `work` on a thread of its own that stays in the namespace of this name.
pub(crate) fn stay_inside<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> JoinHandle<Result<T>> {
    let path = format!("/run/netns/{namespace}");
    std::thread::spawn(move || {
        let file = File::open(&path).with_context(|| format!("opening {path}"))?;
        move_into(&file)?;
        work()
    })
}

fn move_into(namespace: &File) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("moving into a network namespace")
}
