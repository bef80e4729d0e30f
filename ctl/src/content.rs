//! What `secret` and `config` have in common: reading content, lists, objects, labels.

pub(crate) mod reference;

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json as value};
use types::secret::ContentVersion;
use types::{Config, Labels, Meta, Secret, Service, Timestamp};

use crate::connect::Connection;
use crate::error::Error;
use crate::filter::Filters;
use crate::format::{Column, Format, Row, hidden, json, print_objects, row, shown};
use crate::service::{WaitFlags, Waiting};
use crate::{human, natural, output};

/// Bytes read of a file at most: more than the cluster takes, so that it says what is too much.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// Columns of a list.
pub(crate) const COLUMNS: [Column; 8] = [
    shown("ID", "ID"),
    shown("Name", "NAME"),
    shown("Driver", "DRIVER"),
    shown("Version", "VERSION"),
    shown("CreatedAt", "CREATED"),
    shown("UpdatedAt", "UPDATED"),
    hidden("Labels", "LABELS"),
    hidden("Versions", "VERSIONS"),
];

/// Keys a list can be filtered by.
pub(crate) const FILTERS: [&str; 3] = ["id", "name", "label"];

/// The only language templates are written in.
pub(crate) fn template_driver(text: &str) -> Result<bool, String> {
    match text {
        "golang" => Ok(true),
        "" => Ok(false),
        other => Err(format!("{other:?} is not known: only golang is")),
    }
}

/// The content in a file, or on standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut content = vec![];
    let read = if path == Path::new("-") {
        std::io::stdin()
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut content)
    } else {
        let file = std::fs::File::open(path);
        file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut content))
    };
    match read {
        Ok(_) => Ok(content),
        Err(source) => Err(Error::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A secret or config, seen alike.
pub(crate) struct Entry {
    id: String,
    meta: Meta,
    name: String,
    labels: Labels,
    driver: String,
    versions: Vec<ContentVersion>,
    object: Value,
}

impl From<&Secret> for Entry {
    fn from(secret: &Secret) -> Self {
        let driver = secret.spec.driver.as_ref();
        let mut spec = json(&secret.spec);
        reshape(&mut spec, secret.spec.templated);
        Self {
            id: secret.id.to_string(),
            meta: secret.meta,
            name: secret.spec.name.clone(),
            labels: secret.spec.labels.clone(),
            driver: driver.map(|driver| driver.name.clone()).unwrap_or_default(),
            versions: secret.versions.clone(),
            object: spec,
        }
    }
}

impl From<&Config> for Entry {
    fn from(config: &Config) -> Self {
        let mut spec = json(&config.spec);
        reshape(&mut spec, config.spec.templated);
        let newest = config.versions.last().map(|newest| newest.data.bytes());
        spec["Data"] = newest
            .map(|bytes| STANDARD.encode(bytes))
            .unwrap_or_default()
            .into();
        Self {
            id: config.id.to_string(),
            meta: config.meta,
            name: config.spec.name.clone(),
            labels: config.spec.labels.clone(),
            driver: String::new(),
            versions: config.versions.clone(),
            object: spec,
        }
    }
}

impl Entry {
    fn newest(&self) -> u64 {
        self.versions.last().map_or(1, |version| version.number)
    }

    fn numbers(&self) -> String {
        let numbers = self.versions.iter().map(|it| it.number.to_string());
        numbers.collect::<Vec<_>>().join(",")
    }

    fn matches(&self, filters: &Filters<'_>) -> bool {
        filters.any("id", |wanted| self.id.starts_with(wanted))
            && filters.any("name", |wanted| self.name.starts_with(wanted))
            && filters.labels("label", &self.labels)
    }

    /// The object in the shape of Docker's API, with its versions.
    fn object(&self) -> Value {
        let versions = self.versions.iter().map(|version| {
            value!({ "Number": version.number, "CreatedAt": version.created_at.to_string() })
        });
        value!({
            "ID": self.id,
            "Version": json(self.meta.version),
            "CreatedAt": self.meta.created_at.to_string(),
            "UpdatedAt": self.meta.updated_at.to_string(),
            "Spec": self.object,
            "Versions": versions.collect::<Vec<_>>(),
        })
    }

    /// The object for people; a config with its content.
    fn pretty(&self) -> String {
        let mut text = format!("ID:\t\t\t{}\nName:\t\t\t{}\n", self.id, self.name);
        if !self.labels.is_empty() {
            text.push_str("Labels:\n");
            for (key, value) in &self.labels {
                text.push_str(&format!(" - {key}={value}\n"));
            }
        }
        if !self.driver.is_empty() {
            text.push_str(&format!("Driver:\t\t\t{}\n", self.driver));
        }
        text.push_str(&format!("Created at:\t\t{}\n", self.meta.created_at));
        text.push_str(&format!("Updated at:\t\t{}\n", self.meta.updated_at));
        if !self.versions.is_empty() {
            text.push_str("Versions:\n");
        }
        for version in &self.versions {
            text.push_str(&format!(
                " {}\t\t\t{}\n",
                version.number, version.created_at
            ));
        }
        if let Some(newest) = self.versions.last().filter(|it| !it.data.is_empty()) {
            let data = String::from_utf8_lossy(newest.data.bytes());
            text.push_str(&format!("Data:\n{data}\n"));
        }
        text
    }
}

/// Prints them, for people or else for programs.
pub(crate) fn show(entries: &[Entry], pretty: bool, format: Option<&Format>) -> Result<(), Error> {
    if pretty {
        let texts: Vec<_> = entries.iter().map(Entry::pretty).collect();
        return Ok(output::write(&texts.join("\n"))?);
    }
    let objects: Vec<_> = entries.iter().map(Entry::object).collect();
    print_objects(&objects, format)
}

/// Rows of those that match, by name.
pub(crate) fn rows(mut entries: Vec<Entry>, filters: &Filters<'_>, now: Timestamp) -> Vec<Row> {
    entries.retain(|entry| entry.matches(filters));
    entries.sort_by(|a, b| natural::order(&a.name, &b.name));
    let rows = entries.into_iter().map(|entry| {
        let labels = entry
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let labels = labels.collect::<Vec<_>>().join(",");
        row(
            &COLUMNS,
            [
                entry.id.as_str().into(),
                entry.name.as_str().into(),
                entry.driver.as_str().into(),
                entry.newest().into(),
                human::ago(now, entry.meta.created_at).into(),
                human::ago(now, entry.meta.updated_at).into(),
                labels.into(),
                entry.numbers().into(),
            ],
        )
    });
    rows.collect()
}

/// Changes of labels.
pub(crate) fn change_labels(
    labels: &mut Labels,
    gone: &[String],
    new: &[(String, String)],
) -> Result<(), Error> {
    for key in gone {
        if labels.remove(key).is_none() {
            return Err(Error::Usage(format!("there is no label {key:?}")));
        }
    }
    labels.extend(new.iter().cloned());
    Ok(())
}

/// Waits for every service that was moved to the new version.
pub(crate) async fn wait(
    connection: &Connection,
    wait: WaitFlags,
    services: Vec<proto::objects::Service>,
) -> Result<(), Error> {
    let mut errors = vec![];
    for service in services {
        let service = Service::try_from(service)?;
        if let Err(error) = wait.wait(connection, &service, Waiting::Update).await {
            errors.push(error);
        }
    }
    Error::join(errors)
}

/// Says as Docker does which templates are in use.
fn reshape(spec: &mut Value, is_templated: bool) {
    if let Value::Object(fields) = spec {
        fields.shift_remove("Templated");
        if is_templated {
            fields.insert("Templating".to_owned(), value!({ "Name": "golang" }));
        }
        if fields.get("Driver").is_some_and(Value::is_null) {
            fields.shift_remove("Driver");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Payload, SecretId, SecretSpec};

    #[test]
    fn labels_change_and_unknown_ones_are_named() {
        let mut labels = Labels::from([("a".to_owned(), "1".to_owned())]);
        let new = [("b".to_owned(), "2".to_owned())];
        change_labels(&mut labels, &["a".to_owned()], &new).unwrap();
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["b"]);
        assert!(change_labels(&mut labels, &["a".to_owned()], &[]).is_err());
    }

    #[test]
    fn an_object_shows_versions_and_no_content() {
        let version = ContentVersion {
            number: 3,
            created_at: Timestamp(0),
            data: Payload::default(),
        };
        let entry = Entry::from(&Secret {
            id: SecretId::from_number(1),
            meta: Meta::default(),
            spec: SecretSpec {
                name: "db".into(),
                templated: true,
                ..SecretSpec::default()
            },
            versions: vec![version],
        });
        let object = entry.object();
        assert_eq!(object["Spec"]["Name"], "db");
        assert_eq!(object["Spec"]["Templating"]["Name"], "golang");
        assert_eq!(object["Versions"][0]["Number"], 3);
        assert!(object["Spec"].get("Data").is_none());
        assert!(!entry.pretty().contains("Data"));
    }
}
