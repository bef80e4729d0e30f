//! Secrets and configs inside a container: the files, who may read them, how they are mounted.

use std::sync::Arc;

use executor::{Content, Contents, Data, Error, Executor as _};
use seal::Plain;
use types::secret::{
    ConfigReference, ContentId, ContentKey, FileTarget, ReferenceTarget, SecretReference,
};
use types::{ConfigId, Payload, SecretId, Task};

use crate::machine::{Machine, output, sh, with};

fn file(name: &str, uid: &str, mode: u32) -> ReferenceTarget {
    ReferenceTarget::File(FileTarget {
        name: name.to_owned(),
        uid: uid.to_owned(),
        gid: "33".to_owned(),
        mode,
    })
}

fn secret(target: ReferenceTarget) -> SecretReference {
    SecretReference {
        secret_id: SecretId::from_number(1),
        secret_name: "db".to_owned(),
        version: 1,
        target,
    }
}

fn config(number: u128, target: ReferenceTarget) -> ConfigReference {
    ConfigReference {
        config_id: ConfigId::from_number(number),
        config_name: "app".to_owned(),
        version: 1,
        target,
    }
}

/// What the managers would have sent: a secret, a config, and a template that reads both.
fn sent(contents: &Contents) {
    let key = |id| ContentKey {
        id,
        version: 1,
        task: None,
    };
    let id = key(ContentId::Secret(SecretId::from_number(1)));
    let plain = Plain::new(b"hunter2".to_vec());
    let sealed = contents.seal_key().seal(&id.context(), plain).unwrap();
    let data = Data::Sealed(Payload::new(sealed));
    contents.put(
        id,
        Content {
            data,
            is_template: false,
        },
    );
    let template = "{{.Service.Name}}:{{secret \"db\"}}:{{config \"plain\"}}";
    for (number, text, is_template) in [(1, "port=80", false), (2, template, true)] {
        let id = key(ContentId::Config(ConfigId::from_number(number)));
        let data = Data::Clear(Payload::new(text.as_bytes().to_vec()));
        contents.put(id, Content { data, is_template });
    }
}

fn reading(script: &str) -> Task {
    with(sh(1, script), |spec| {
        let container = &mut spec.container;
        container.secrets = vec![
            secret(file("db", "0", 0o444)),
            secret(file("/etc/app/pw", "1000", 0o400)),
            secret(ReferenceTarget::Env("DB_PASSWORD".to_owned())),
        ];
        container.configs = vec![
            config(1, file("plain", "0", 0o444)),
            config(2, file("/etc/app/app.conf", "0", 0o440)),
        ];
    })
}

#[tokio::test]
async fn secrets_and_configs_are_files_in_memory() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let contents = Contents::new();
    sent(&contents);
    machine.executor().set_contents(contents);
    let script = "cat /run/secrets/db; echo; cat /etc/app/pw; echo; cat /plain; echo
        cat /etc/app/app.conf; echo; echo $DB_PASSWORD
        stat -c '%a %u %g' /run/secrets/db /etc/app/pw /plain /etc/app/app.conf
        touch /run/secrets/x 2>/dev/null || echo refused; (echo >/plain) 2>/dev/null || echo refused
        grep -c ' /run/secrets ro,nosuid,nodev,noexec' /proc/self/mountinfo
        grep -E ' /(etc/app/(pw|app.conf)|plain) ro,nosuid,nodev,noexec' /proc/self/mountinfo | grep -c .
        ls /run/secrets";
    let expected = "hunter2\nhunter2\nport=80\nweb:hunter2:port=80\nhunter2\n\
                    444 0 33\n400 1000 33\n444 0 33\n440 0 33\n\
                    refused\nrefused\n1\n3\ndb";
    assert_eq!(output(&machine, reading(script)).await, expected);
    let mut found = vec![];
    holding(machine.dir.path(), b"hunter2", &mut found);
    // The output is the task's own word.
    found.retain(|path| !path.to_string_lossy().contains("/log/"));
    assert_eq!(found, Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_task_waits_for_what_has_not_come_and_a_bad_template_is_told() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let contents = Contents::new();
    machine.executor().set_contents(contents.clone());
    let controller = machine.executor().controller(Arc::new(reading("true")));
    let waiting = controller.prepare().await.unwrap_err();
    let text = "waiting for secret db version 1 from the managers".to_owned();
    assert_eq!(waiting, Error::Temporary(text));
    sent(&contents);
    let wrong = with(reading("true"), |spec| {
        // Without the config that the template reads.
        spec.container.configs.remove(0);
    });
    let controller = machine.executor().controller(Arc::new(wrong));
    let refused = controller.prepare().await.unwrap_err().to_string();
    let expected = "expanding config \"app\" failed: the task has no config with target \"plain\"";
    assert_eq!(refused, expected);
}

/// Every file below a directory that holds the bytes.
fn holding(dir: &std::path::Path, needle: &[u8], found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => holding(&path, needle, found),
            Ok(kind) if kind.is_file() => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                if bytes.windows(needle.len()).any(|window| window == needle) {
                    found.push(path);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}
