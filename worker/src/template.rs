//! Placeholders in a task's spec: `{{.Service.Name}}` and the like.
//!
//! A subset of Go's template language: fields only, no functions or conditions. What is not one of
//! the fields is an error rather than an empty text, so that a mistyped one shows.

use types::Task;
use types::task::Platform;
use zeroize::Zeroizing;

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
    /// A template, or what it reads, that is not text.
    #[error("it is no text in UTF-8")]
    NoText,
    /// What a template reads cannot be had.
    #[error("{0}")]
    Content(String),
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

/// Finds content a template reads: kind (`secret` or `config`) and target.
pub(crate) type Finder<'a> = &'a dyn Fn(&str, &str) -> Result<Zeroizing<String>, Error>;

/// The content of a secret or config with its placeholders filled in. Besides fields there are
/// `secret "TARGET"`, `config "TARGET"` and `env "NAME"`, of the same task.
pub(crate) fn expand_content(
    text: &str,
    task: &Task,
    place: Place<'_>,
    find: Finder<'_>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut pieces = vec![];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((action, after)) = after.split_once("}}") else {
            // The content may be secret: not a word of it is told.
            return Err(Error::Unclosed("a template".to_owned()));
        };
        pieces.push(Zeroizing::new(before.to_owned()));
        pieces.push(called(action.trim(), task, place, find)?);
        rest = after;
    }
    pieces.push(Zeroizing::new(rest.to_owned()));
    // Of the final size from the beginning: growing would leave copies behind.
    let length = pieces.iter().map(|piece| piece.len()).sum();
    let mut whole = Zeroizing::new(Vec::with_capacity(length));
    for piece in &pieces {
        whole.extend_from_slice(piece.as_bytes());
    }
    Ok(whole)
}

fn called(
    action: &str,
    task: &Task,
    place: Place<'_>,
    find: Finder<'_>,
) -> Result<Zeroizing<String>, Error> {
    let Some((function, argument)) = action.split_once(char::is_whitespace) else {
        return value(action, task, place).map(Zeroizing::new);
    };
    let argument = argument.trim();
    let quoted = |quote| {
        argument
            .strip_prefix(quote)
            .and_then(|it| it.strip_suffix(quote))
    };
    let argument = quoted('"').or_else(|| quoted('`'));
    match (function, argument) {
        ("secret" | "config", Some(target)) => find(function, target),
        ("env", Some(name)) => {
            let is_named = |entry: &&String| entry.split('=').next() == Some(name);
            let entry = task.spec.container.env.iter().rev().find(is_named);
            let value = entry
                .and_then(|entry| entry.split_once('='))
                .map(|(_, value)| value);
            let missing = || Error::Content(format!("the task has no variable {name:?}"));
            expand(value.ok_or_else(missing)?, task, place).map(Zeroizing::new)
        }
        (_, _) => Err(Error::Unknown(action.to_owned())),
    }
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
    fn content_reads_what_else_the_task_sees() {
        let platform = Platform::default();
        let mut task = crate::plan::tests::task();
        let spec = std::sync::Arc::make_mut(&mut task.spec);
        spec.container.env = vec!["PORT=80{{.Task.Slot}}".to_owned()];
        let find = |kind: &str, target: &str| match target {
            "db" => Ok(Zeroizing::new(format!("<{kind}>"))),
            other => Err(Error::Content(format!("no {other}"))),
        };
        let expand = |text: &str| {
            let whole = expand_content(text, &task, place(&platform), &find)?;
            Ok::<_, Error>(String::from_utf8(whole.to_vec()).unwrap())
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("a{{secret \"db\"}}b{{ config `db` }}", "a<secret>b<config>"),
            ("{{.Service.Name}}:{{env \"PORT\"}}", "web:804"),
        ] {
            assert_eq!(expand(text).unwrap(), expected, "{text}");
        }
        for (text, expected) in [
            ("hunter2 {{", "{{ without }} in \"a template\""),
            ("{{secret \"x\"}}", "no x"),
            ("{{env \"X\"}}", "the task has no variable \"X\""),
            ("{{secret db}}", "unknown placeholder {{secret db}}"),
            ("{{range .}}", "unknown placeholder {{range .}}"),
        ] {
            assert_eq!(expand(text).unwrap_err().to_string(), expected, "{text}");
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
