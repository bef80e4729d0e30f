//! Finds the container's program and executes it.

use crate::error::{Fault, Result, Step};
use crate::spec::ContainerSpec;
use crate::syscall;
use rustix::io::Errno;
use std::ffi::CString;

/// A program that only has to be executed. Everything that can be refused without looking at the
/// file system was.
pub(super) struct Program {
    /// What to try, in order.
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    name: String,
}

impl Program {
    pub(super) fn new(spec: &ContainerSpec, env: Vec<String>) -> Result<Self> {
        let name = spec.args.first().filter(|name| !name.is_empty()).cloned();
        let name = name.ok_or_else(|| Fault::refuse(Step::Exec, "\"\"", "there is no program"))?;
        let c_string = |text: &str| {
            let reason = "it has a zero byte";
            CString::new(text).map_err(|_| Fault::refuse(Step::Exec, format!("{text:?}"), reason))
        };
        let path = env
            .iter()
            .find_map(|pair| pair.strip_prefix("PATH="))
            .unwrap_or("");
        let candidates: Result<Vec<_>> = candidates(&name, path)
            .iter()
            .map(|path| c_string(path))
            .collect();
        Ok(Self {
            candidates: candidates?,
            args: spec
                .args
                .iter()
                .map(|arg| c_string(arg))
                .collect::<Result<_>>()?,
            env: env
                .iter()
                .map(|pair| c_string(pair))
                .collect::<Result<_>>()?,
            name,
        })
    }

    /// Executes the first candidate there is. Only returns on failure.
    pub(super) fn execute(&self) -> Fault {
        // A candidate that cannot be executed does not end the search, but is what is told if
        // nothing better is found.
        let mut worst = Errno::NOENT;
        for path in &self.candidates {
            match syscall::execve(path, &self.args, &self.env) {
                Errno::NOENT | Errno::NOTDIR if self.candidates.len() > 1 => {}
                Errno::ACCESS => worst = Errno::ACCESS,
                errno => return Fault::errno(Step::Exec, &self.name, errno),
            }
        }
        Fault::errno(Step::Exec, &self.name, worst)
    }
}

/// Where a program of this name can be. Empty parts of the path, which shells take for the working
/// directory, are left out.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    path.split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| format!("{dir}/{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_searched_and_paths_are_not() {
        assert_eq!(
            candidates("sh", "/bin::/usr/bin"),
            ["/bin/sh", "/usr/bin/sh"]
        );
        assert_eq!(candidates("./sh", "/bin"), ["./sh"]);
        assert_eq!(candidates("/x/sh", "/bin"), ["/x/sh"]);
        assert!(candidates("sh", "").is_empty());
    }

    #[test]
    fn nothing_to_run_and_zero_bytes_are_refused() {
        let spec = |args: &[&str]| ContainerSpec {
            args: args.iter().map(|arg| String::from(*arg)).collect(),
            ..ContainerSpec::default()
        };
        for args in [&[][..], &[""], &["a\0b"], &["a", "b\0"]] {
            assert!(Program::new(&spec(args), Vec::new()).is_err(), "{args:?}");
        }
        assert!(Program::new(&spec(&["a"]), vec!["X=\0".into()]).is_err());
    }
}
