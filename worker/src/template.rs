//! Placeholders in a task's spec: `{{.Service.Name}}` and the like.
//!
//! A subset of Go's template language: fields only, no functions or conditions. What is not one of
//! the fields is an error rather than an empty text, so that a mistyped one shows.

use types::Task;
use types::task::Platform;

/// Why a text with placeholders has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A placeholder is not closed.
    #[error("{{{{ without }}}} in {0:?}")]
    Unclosed(String),
    /// There is no such placeholder.
    #[error("unknown placeholder {{{{{0}}}}}")]
    Unknown(String),
    /// A placeholder whose value tasks do not carry.
    #[error(
        "the placeholder {{{{{0}}}}} is not supported: tasks do not know their service's labels"
    )]
    ServiceLabels(String),
}

/// Where a task is, for its placeholders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) platform: &'a Platform,
}

/// `text` with its placeholders filled in.
pub(crate) fn expand(text: &str, task: &Task, place: Place<'_>) -> Result<String, Error> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((field, after)) = after.split_once("}}") else {
            return Err(Error::Unclosed(text.to_owned()));
        };
        expanded.push_str(before);
        expanded.push_str(&value(field.trim(), task, place)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn value(field: &str, task: &Task, place: Place<'_>) -> Result<String, Error> {
    let node_id = || task.node_id.map_or_else(String::new, |id| id.to_string());
    Ok(match field {
        ".Service.ID" => task.service_id.to_string(),
        ".Service.Name" => task.service_name.clone(),
        ".Node.ID" => node_id(),
        ".Node.Hostname" => place.hostname.to_owned(),
        ".Node.Platform.OS" => place.platform.os.clone(),
        ".Node.Platform.Architecture" => place.platform.architecture.clone(),
        ".Task.ID" => task.id.to_string(),
        // With the id, as SwarmKit's naming has it; listings show it without.
        ".Task.Name" => format!("{}.{}", task.name(), task.id),
        ".Task.Slot" if task.slot == 0 => node_id(),
        ".Task.Slot" => task.slot.to_string(),
        other if other.contains(".Service.Labels") => {
            return Err(Error::ServiceLabels(other.to_owned()));
        }
        other => return Err(Error::Unknown(other.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use types::{NodeId, ServiceId, TaskId};

    use super::*;

    fn place(platform: &Platform) -> Place<'_> {
        Place {
            hostname: "m1",
            platform,
        }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let platform = Platform {
            os: "linux".to_owned(),
            architecture: "x86_64".to_owned(),
        };
        let replica = crate::plan::tests::task();
        let global = Task {
            slot: 0,
            ..replica.clone()
        };
        let (task, node) = (TaskId::from_number(1), NodeId::from_number(3));
        let service = ServiceId::from_number(2);
        for (text, expected) in [
            ("plain } { text", "plain } { text".to_owned()),
            ("{{.Service.Name}}-{{ .Task.Slot }}", "web-4".to_owned()),
            ("{{.Service.ID}}", service.to_string()),
            ("{{.Node.ID}}@{{.Node.Hostname}}", format!("{node}@m1")),
            (
                "{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}",
                "linux/x86_64".to_owned(),
            ),
            ("{{.Task.ID}}", task.to_string()),
            ("<{{.Task.Name}}>", format!("<web.4.{task}>")),
        ] {
            assert_eq!(
                expand(text, &replica, place(&platform)),
                Ok(expected),
                "{text}"
            );
        }
        for (text, expected) in [
            ("{{.Task.Slot}}", node.to_string()),
            ("{{.Task.Name}}", format!("web.{node}.{task}")),
        ] {
            assert_eq!(
                expand(text, &global, place(&platform)),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_placeholders_are_named() {
        let platform = Platform::default();
        for (text, expected) in [
            ("{{.Task.Nme}}", "unknown placeholder {{.Task.Nme}}"),
            ("{{}}", "unknown placeholder {{}}"),
            ("a{{.Task.ID", "{{ without }} in \"a{{.Task.ID\""),
            (
                "{{.Service.Labels.tier}}",
                "the placeholder {{.Service.Labels.tier}} is not supported: \
                 tasks do not know their service's labels",
            ),
        ] {
            let error = expand(text, &crate::plan::tests::task(), place(&platform));
            assert_eq!(error.unwrap_err().to_string(), expected, "{text}");
        }
    }
}
