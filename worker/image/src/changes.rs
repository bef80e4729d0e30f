//! Dockerfile-like changes (`CMD ["sh"]`, `ENV A=b`) to the configuration of an imported image.

use crate::Error;
use crate::config::ImageConfig;

impl ImageConfig {
    /// Applies one instruction of a Dockerfile: `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`,
    /// `STOPSIGNAL`, `USER`, `VOLUME` or `WORKDIR`.
    ///
    /// Commands are JSON lists or text for `/bin/sh -c`. Pairs are `NAME=value`, separated by
    /// spaces, a value with spaces in double quotes.
    ///
    /// # Errors
    /// [`Error::InvalidChange`] when the instruction is none of these or malformed.
    pub fn apply(&mut self, change: &str) -> Result<(), Error> {
        self.try_apply(change)
            .map_err(|reason| Error::InvalidChange {
                change: crate::error::printable(change.as_bytes()),
                reason,
            })
    }

    fn try_apply(&mut self, change: &str) -> Result<(), &'static str> {
        let (instruction, value) = change
            .trim()
            .split_once(char::is_whitespace)
            .ok_or("it must be an instruction and its value")?;
        let value = value.trim();
        match instruction.to_ascii_uppercase().as_str() {
            "CMD" => self.cmd = command(value)?,
            "ENTRYPOINT" => self.entrypoint = command(value)?,
            "ENV" => {
                for (name, value) in pairs(value)? {
                    let prefix = format!("{name}=");
                    self.env.retain(|entry| !entry.starts_with(&prefix));
                    self.env.push(prefix + &value);
                }
            }
            "EXPOSE" => {
                for port in value.split_whitespace() {
                    insert(&mut self.exposed_ports, exposed_port(port)?);
                }
            }
            "LABEL" => self.labels.extend(pairs(value)?),
            "STOPSIGNAL" => value.clone_into(&mut self.stop_signal),
            "USER" => value.clone_into(&mut self.user),
            "VOLUME" => {
                let paths = list(value)?
                    .unwrap_or_else(|| value.split_whitespace().map(str::to_owned).collect());
                for path in paths {
                    insert(&mut self.volumes, path);
                }
            }
            "WORKDIR" if value.starts_with('/') => value.clone_into(&mut self.working_dir),
            "WORKDIR" => return Err("a working directory must be an absolute path"),
            _unknown => {
                return Err("the instructions are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, \
                            STOPSIGNAL, USER, VOLUME and WORKDIR");
            }
        }
        Ok(())
    }
}

fn command(value: &str) -> Result<Vec<String>, &'static str> {
    Ok(list(value)?
        .unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), value.to_owned()]))
}

/// The list, if the value is meant to be one.
fn list(value: &str) -> Result<Option<Vec<String>>, &'static str> {
    if !value.starts_with('[') {
        return Ok(None);
    }
    serde_json::from_str(value)
        .map(Some)
        .map_err(|_| "it begins like a JSON list of texts but is none")
}

/// `80`, `80/tcp`, `80/udp`, with the protocol filled in.
fn exposed_port(text: &str) -> Result<String, &'static str> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port: u16 = port
        .parse()
        .map_err(|_| "a port is a number from 1 to 65535")?;
    if port == 0 || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err("a port is `<1-65535>`, with `/tcp`, `/udp` or `/sctp`");
    }
    Ok(format!("{port}/{protocol}"))
}

fn insert(set: &mut Vec<String>, value: String) {
    if let Err(at) = set.binary_search(&value) {
        set.insert(at, value);
    }
}

/// `A=b C="d e"`, or the old form `A the rest`.
fn pairs(value: &str) -> Result<Vec<(String, String)>, &'static str> {
    let words = words(value)?;
    let first = words.first().ok_or("it has no value")?;
    if !first.contains('=') {
        let (name, rest) = value
            .split_once(char::is_whitespace)
            .ok_or("a pair is `NAME=value`")?;
        return Ok(vec![(name.to_owned(), rest.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            Some(_) | None => Err("a pair is `NAME=value`"),
        })
        .collect()
}

/// Splits at spaces outside quotes; a backslash keeps the next character.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote != Some('\'') => {
                let next = chars.next().ok_or("it ends in a backslash")?;
                word.get_or_insert_default().push(next);
            }
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && quote.is_none() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_configuration() {
        let mut config = ImageConfig::default();
        for change in [
            r#"CMD ["-c", "x y"]"#,
            "entrypoint /run it",
            r#"ENV A=b C="d e" F=g\ h"#,
            "ENV A again and again",
            "EXPOSE 443 80/udp 443",
            "LABEL a.b='c'",
            "STOPSIGNAL SIGINT",
            "USER 1000:1000",
            r#"VOLUME ["/b", "/a"]"#,
            "WORKDIR /srv",
        ] {
            config.apply(change).unwrap_or_else(|e| panic!("{e}"));
        }
        assert_eq!(config.cmd, ["-c", "x y"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "/run it"]);
        assert_eq!(config.env, ["C=d e", "F=g h", "A=again and again"]);
        assert_eq!(config.exposed_ports, ["443/tcp", "80/udp"]);
        assert_eq!(config.labels.get("a.b").map(String::as_str), Some("c"));
        assert_eq!(config.stop_signal, "SIGINT");
        assert_eq!(config.user, "1000:1000");
        assert_eq!(config.volumes, ["/a", "/b"]);
        assert_eq!(config.working_dir, "/srv");
    }

    #[test]
    fn other_texts_are_refused() {
        for change in [
            "",
            "CMD",
            "RUN true",
            "CMD [1]",
            "ENV A",
            "ENV =b",
            "ENV A=b C",
            "ENV A=\"b",
            "ENV A=b\\",
            "EXPOSE 0",
            "EXPOSE 70000",
            "EXPOSE 80/icmp",
            "WORKDIR srv",
        ] {
            let refused = ImageConfig::default().apply(change);
            assert!(
                matches!(refused, Err(Error::InvalidChange { .. })),
                "{change}"
            );
        }
    }
}
