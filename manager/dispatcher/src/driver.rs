//! Drivers of secrets: programs beside a manager that give the content instead of the store.
//!
//! A driver is named in the daemon's options, so a cluster's users can ask only for what whoever
//! runs the managers allows. It is run once for each task: it reads one JSON object from standard
//! input and writes one to standard output (S14.09).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seal::{Plain, Zeroizing};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use types::secret::SECRET_BYTES_MAX;
use types::{Labels, Secret, Service, Task};

/// How long a driver may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer in bytes: the largest secret in base64, and some words.
const ANSWER_BYTES_MAX: usize = SECRET_BYTES_MAX / 3 * 4 + 4096;
/// Where a driver's own programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The drivers a manager knows: names and programs.
pub type SecretDrivers = BTreeMap<String, PathBuf>;

/// What a driver is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request {
    secret_name: String,
    secret_labels: Labels,
    options: Labels,
    #[serde(rename = "ServiceID")]
    service_id: String,
    service_name: String,
    service_labels: Labels,
    #[serde(rename = "TaskID")]
    task_id: String,
    task_name: String,
    task_image: String,
    #[serde(rename = "NodeID")]
    node_id: String,
}

/// What a driver answers. Its `DoNotReuse` is taken for granted: every task is given its own.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    /// The content in base64.
    value: String,
    /// Why there is none.
    err: String,
}

impl Request {
    pub(crate) fn new(secret: &Secret, service: Option<&Service>, task: &Task) -> Self {
        let driver = secret.spec.driver.as_ref();
        Self {
            secret_name: secret.spec.name.clone(),
            secret_labels: secret.spec.labels.clone(),
            options: driver.map(|it| it.options.clone()).unwrap_or_default(),
            service_id: task.service_id.to_string(),
            service_name: task.service_name.clone(),
            service_labels: service.map(|it| it.spec.labels.clone()).unwrap_or_default(),
            task_id: task.id.to_string(),
            task_name: task.name(),
            task_image: task.spec.container.image.clone(),
            node_id: task.node_id.map(|id| id.to_string()).unwrap_or_default(),
        }
    }
}

/// Asks a driver for the content of a secret.
///
/// # Errors
/// A sentence without anything the driver wrote but its own `Err`.
pub(crate) async fn ask(
    drivers: &SecretDrivers,
    driver: &str,
    request: &Request,
) -> Result<Plain, String> {
    let program = drivers
        .get(driver)
        .ok_or_else(|| format!("this manager knows no secret driver {driver:?}"))?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, run(program, request)).await;
    let answer = answer.map_err(|_| {
        let seconds = ANSWER_TIMEOUT.as_secs();
        format!("secret driver {driver} gave no answer in {seconds} s")
    })?;
    let answer = answer.map_err(|problem| format!("secret driver {driver}: {problem}"))?;
    read(&answer).map_err(|problem| format!("secret driver {driver}: {problem}"))
}

async fn run(program: &PathBuf, request: &Request) -> Result<Plain, String> {
    let mut child = Command::new(program)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{} does not start: {error}", program.display()))?;
    let text = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else {
        return Err("it has no pipes".to_owned());
    };
    let tell = async {
        // A driver need not read what it does not care for.
        drop(stdin.write_all(&text).await);
        drop(stdin);
    };
    // Of its final size from the beginning: growing would leave copies behind.
    let mut answer = Zeroizing::new(vec![0; ANSWER_BYTES_MAX + 1]);
    let hear = async {
        let mut length = 0;
        loop {
            let count = stdout.read(&mut answer[length..]).await;
            match count.map_err(|error| format!("its answer cannot be read: {error}"))? {
                0 => return Ok::<usize, String>(length),
                count => length += count,
            }
        }
    };
    let ((), length) = tokio::join!(tell, hear);
    let length = length?;
    if length > ANSWER_BYTES_MAX {
        return Err(format!("its answer has more than {ANSWER_BYTES_MAX} bytes"));
    }
    answer.truncate(length);
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        Ok(answer)
    } else {
        Err(format!("it failed ({status})"))
    }
}

fn read(answer: &[u8]) -> Result<Plain, String> {
    // The parser's own words may quote the answer.
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| "its answer is no JSON")?;
    let Answer { value, err } = answer;
    let value = Zeroizing::new(value);
    if !err.is_empty() {
        return Err(err);
    }
    let length = base64::decoded_len_estimate(value.len());
    let mut plain = Zeroizing::new(vec![0; length]);
    let decoded = STANDARD.decode_slice(value.as_bytes(), &mut plain);
    plain.truncate(decoded.map_err(|_| "its Value is no base64")?);
    if plain.is_empty() || plain.len() > SECRET_BYTES_MAX {
        return Err(format!(
            "its Value has {} bytes: a secret has 1 to {SECRET_BYTES_MAX}",
            plain.len()
        ));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn request() -> Request {
        let secret = Secret {
            id: types::SecretId::from_number(1),
            meta: types::Meta::default(),
            spec: types::SecretSpec {
                name: "db".into(),
                ..types::SecretSpec::default()
            },
            versions: vec![],
        };
        let task = crate::tests::fixture::task(1, 1, types::TaskState::Assigned);
        Request::new(&secret, None, &task)
    }

    async fn answer(script: &str) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("driver");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let drivers = SecretDrivers::from([("vault".to_owned(), path)]);
        let given = ask(&drivers, "vault", &request()).await;
        given.map(|plain| plain.to_vec())
    }

    #[tokio::test]
    async fn a_driver_reads_the_request_and_gives_the_content() {
        let value = "grep -q '\"SecretName\":\"db\"' && echo '{\"Value\":\"aHVudGVyMg==\"}'";
        assert_eq!(answer(value).await.unwrap(), b"hunter2");
        let deaf = "echo '{\"Value\":\"eA==\",\"DoNotReuse\":true}'";
        assert_eq!(answer(deaf).await.unwrap(), b"x");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_without_the_answer() {
        for (script, problem) in [
            ("echo '{\"Err\":\"sealed\"}'", "secret driver vault: sealed"),
            ("echo hunter2", "its answer is no JSON"),
            ("echo '{\"Value\":\"?\"}'", "no base64"),
            ("echo '{}'", "has 0 bytes"),
            ("exit 3", "it failed"),
            ("yes | head -c 2000000", "more than"),
        ] {
            let error = answer(script).await.unwrap_err();
            assert!(error.contains(problem), "{script}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let none = ask(&SecretDrivers::new(), "vault", &request()).await;
        assert!(none.unwrap_err().contains("knows no secret driver"));
    }
}
