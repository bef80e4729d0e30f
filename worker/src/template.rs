//! Placeholders like `{{.Task.Slot}}` in a task's environment and host name (S18).

use types::{Node, Task};

/// Placeholders stand for what is known here.
pub(crate) struct Names<'a> {
    pub(crate) task: &'a Task,
    /// The node as the managers see it, once they told.
    pub(crate) node: Option<&'a Node>,
    /// The machine's name, for as long as they have not.
    pub(crate) hostname: &'a str,
}

/// A placeholder that means nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("unknown placeholder {{{{{0}}}}}")]
    Unknown(String),
    #[error("a placeholder in {0:?} has no end")]
    Open(String),
}

impl Names<'_> {
    /// The text with every placeholder replaced.
    pub(crate) fn expand(&self, text: &str) -> Result<String, Error> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after
                .split_once("}}")
                .ok_or_else(|| Error::Open(text.to_owned()))?;
            expanded.push_str(before);
            expanded.push_str(&self.value(name.trim())?);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn value(&self, name: &str) -> Result<String, Error> {
        let platform = || {
            self.node
                .and_then(|node| Some(&node.description.as_ref()?.platform))
        };
        Ok(match name {
            ".Service.ID" => self.task.service_id.to_string(),
            ".Service.Name" => self.task.service_name.clone(),
            ".Node.ID" => self
                .task
                .node_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            ".Node.Hostname" => self
                .node
                .map_or_else(|| self.hostname.to_owned(), Node::hostname),
            ".Node.Platform.OS" => platform().map(|p| p.os.clone()).unwrap_or_default(),
            ".Node.Platform.Architecture" => platform()
                .map(|p| p.architecture.clone())
                .unwrap_or_default(),
            ".Task.ID" => self.task.id.to_string(),
            ".Task.Name" => format!("{}.{}", self.task.name(), self.task.id),
            ".Task.Slot" => match (self.task.slot, self.task.node_id) {
                (0, Some(node)) => node.to_string(),
                (slot, _) => slot.to_string(),
            },
            unknown => return Err(Error::Unknown(unknown.to_owned())),
        })
    }
}
