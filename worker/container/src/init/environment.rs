//! The environment variables and the host name every program can count on.

use crate::spec::{ContainerSpec, Network};
use crate::state::Config;
use zeroize::Zeroizing;

/// Docker's default search path.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Characters of the id that make the default host name; Docker's number.
const HOSTNAME_ID_BYTES: usize = 12;

/// The host name a container has: the one asked for, else with the machine's network the machine's,
/// else the beginning of its id.
pub(crate) fn hostname(config: &Config) -> String {
    if !config.spec.hostname.is_empty() {
        return config.spec.hostname.clone();
    }
    if config.spec.network == Network::Host {
        return rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
    }
    config.id.chars().take(HOSTNAME_ID_BYTES).collect()
}

/// The container's variables, with those it lacks of `PATH`, `HOSTNAME` and `HOME`. Of two with one
/// name the later one counts.
pub(super) fn complete(
    spec: &ContainerSpec,
    private: &[Zeroizing<String>],
    hostname: &str,
    home: &str,
) -> Vec<String> {
    let mut env: Vec<String> = Vec::with_capacity(spec.env.len() + 3);
    let name_of = |pair: &str| pair.split_once('=').map(|(name, _)| name.to_owned());
    let defaults = [("PATH", PATH), ("HOSTNAME", hostname), ("HOME", home)];
    let defaults = defaults.map(|(name, value)| format!("{name}={value}"));
    let private = private.iter().map(|pair| &**pair);
    for pair in defaults.iter().chain(&spec.env).chain(private) {
        // A name alone asks for the variable to be left out.
        let name = name_of(pair).unwrap_or_else(|| pair.clone());
        let earlier = env
            .iter()
            .position(|known| name_of(known).as_ref() == Some(&name));
        match (pair.contains('='), earlier) {
            (true, Some(at)) => env[at].clone_from(pair),
            (true, None) => env.push(pair.clone()),
            (false, Some(at)) => drop(env.remove(at)),
            (false, None) => {}
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_give_way() {
        let spec = |env: &[&str]| ContainerSpec {
            env: env.iter().map(|pair| String::from(*pair)).collect(),
            ..ContainerSpec::default()
        };
        let path = format!("PATH={PATH}");
        for (env, expected) in [
            (&[][..], &[path.as_str(), "HOSTNAME=h", "HOME=/root"][..]),
            (
                &["A=1", "B=x=y", "A=2"],
                &[&path, "HOSTNAME=h", "HOME=/root", "A=2", "B=x=y"],
            ),
            (&["PATH=/p", "HOME="], &["PATH=/p", "HOSTNAME=h", "HOME="]),
            (&["HOSTNAME", "NOTHING"], &[&path, "HOME=/root"]),
        ] {
            assert_eq!(complete(&spec(env), &[], "h", "/root"), expected, "{env:?}");
        }
    }
}
