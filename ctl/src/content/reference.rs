//! `--secret` and `--config` of a service: short and long (X04), and their names looked up.

use proto::control::{GetConfigRequest, GetSecretRequest};
use types::ServiceSpec;
use types::secret::{ConfigReference, FileTarget, ReferenceTarget, SecretReference};

use crate::connect::Connection;
use crate::error::Error;
use crate::parse::csv;

/// Permission bits of a file when the user names none.
const MODE_DEFAULT: u32 = 0o444;

/// What a flag asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    source: String,
    target: ReferenceTarget,
}

/// `NAME`, or `source=NAME,target=FILE,uid=N,gid=N,mode=0400`, or `source=NAME,env=VARIABLE`.
pub(crate) fn reference(text: &str) -> Result<Reference, String> {
    let fields = csv::fields(text)?;
    if let [name] = &fields[..]
        && !name.contains('=')
    {
        return Ok(Reference {
            source: name.clone(),
            target: ReferenceTarget::File(file(name.clone())),
        });
    }
    let mut source = None;
    let mut found = file(String::new());
    let mut env = None;
    let mut of_file = None;
    for field in &fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field {field:?}: it must be a key=value pair"))?;
        let key = key.trim().to_ascii_lowercase();
        match key.as_str() {
            "source" | "src" => source = Some(value.to_owned()),
            "target" => value.clone_into(&mut found.name),
            "uid" => value.clone_into(&mut found.uid),
            "gid" => value.clone_into(&mut found.gid),
            "mode" => {
                found.mode = u32::from_str_radix(value, 8)
                    .map_err(|_| format!("mode {value:?} is not an octal file mode"))?;
            }
            "env" => env = Some(value.to_owned()),
            _ => {
                return Err(format!(
                    "unexpected key {key:?}: there are source, target, uid, gid, mode and env"
                ));
            }
        }
        if matches!(key.as_str(), "target" | "uid" | "gid" | "mode") {
            of_file = Some(key);
        }
    }
    let source = source.filter(|name| !name.is_empty());
    let source = source.ok_or_else(|| "source is required".to_owned())?;
    let target = match (env, of_file) {
        (Some(name), None) => ReferenceTarget::Env(name),
        (Some(_), Some(key)) => {
            return Err(format!("env puts it into a variable: {key} is of a file"));
        }
        (None, _) => {
            if found.name.is_empty() {
                found.name.clone_from(&source);
            }
            ReferenceTarget::File(found)
        }
    };
    Ok(Reference { source, target })
}

fn file(name: String) -> FileTarget {
    FileTarget {
        name,
        uid: "0".to_owned(),
        gid: "0".to_owned(),
        mode: MODE_DEFAULT,
    }
}

/// References to add to a service and names to take out of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    add_secrets: Vec<SecretReference>,
    add_configs: Vec<ConfigReference>,
    rm_secrets: Vec<String>,
    rm_configs: Vec<String>,
}

impl Changes {
    /// Looks the names up. Version 0 asks for the newest.
    pub(crate) async fn find(
        connection: &Connection,
        secrets: &[Reference],
        configs: &[Reference],
    ) -> Result<Self, Error> {
        let mut control = connection.control();
        let mut changes = Self::default();
        for Reference { source, target } in secrets {
            let key = source.clone();
            let found = control
                .get_secret(GetSecretRequest { key })
                .await?
                .into_inner();
            let secret = types::Secret::try_from(found.secret.unwrap_or_default())?;
            changes.add_secrets.push(SecretReference {
                secret_id: secret.id,
                secret_name: secret.spec.name,
                version: 0,
                target: target.clone(),
            });
        }
        for Reference { source, target } in configs {
            let key = source.clone();
            let found = control
                .get_config(GetConfigRequest { key })
                .await?
                .into_inner();
            let config = types::Config::try_from(found.config.unwrap_or_default())?;
            changes.add_configs.push(ConfigReference {
                config_id: config.id,
                config_name: config.spec.name,
                version: 0,
                target: target.clone(),
            });
        }
        Ok(changes)
    }

    /// Also takes out what is called so, by name or id.
    pub(crate) fn without(mut self, secrets: &[String], configs: &[String]) -> Self {
        self.rm_secrets = secrets.to_vec();
        self.rm_configs = configs.to_vec();
        self
    }

    /// Removing comes first, so that -rm and -add of the same thing replace it.
    pub(crate) fn apply(&self, spec: &mut ServiceSpec) {
        let container = &spec.task.container;
        let mut secrets = container.secrets.clone();
        let is_called = |gone: &String, name: &str, id: &str| gone == name || gone == id;
        secrets.retain(|it| {
            let id = it.secret_id.to_string();
            !self
                .rm_secrets
                .iter()
                .any(|gone| is_called(gone, &it.secret_name, &id))
        });
        secrets.extend(self.add_secrets.iter().cloned());
        let mut configs = container.configs.clone();
        configs.retain(|it| {
            let id = it.config_id.to_string();
            !self
                .rm_configs
                .iter()
                .any(|gone| is_called(gone, &it.config_name, &id))
        });
        configs.extend(self.add_configs.iter().cloned());
        let container = &mut std::sync::Arc::make_mut(&mut spec.task).container;
        container.secrets = secrets;
        container.configs = configs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_forms() {
        let short = reference("db.pw").unwrap();
        assert_eq!(short.source, "db.pw");
        assert_eq!(short.target, ReferenceTarget::File(file("db.pw".into())));
        assert_eq!(reference("source=db.pw").unwrap(), short);
        let long = reference("source=db,target=/etc/pw,uid=33,gid=34,mode=0440").unwrap();
        let expected = FileTarget {
            name: "/etc/pw".into(),
            uid: "33".into(),
            gid: "34".into(),
            mode: 0o440,
        };
        assert_eq!(long.target, ReferenceTarget::File(expected));
        let env = reference("src=db,env=DB_PASSWORD").unwrap();
        assert_eq!(env.target, ReferenceTarget::Env("DB_PASSWORD".into()));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, problem) in [
            ("target=x", "source is required"),
            ("source=a,mode=9", "not an octal"),
            ("source=a,colour=red", "unexpected key"),
            ("source=a,b", "key=value"),
            ("source=a,env=A,uid=3", "uid is of a file"),
        ] {
            let error = reference(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
