//! Go's text templates, as far as `--format` needs them: fields, variables, `if`, `range`, `with`,
//! pipelines, and the functions Docker's users know.
//!
//! Data is JSON. A field that an object does not have is an error that names those it has, except
//! in maps of the user's making (labels), where it is Go's `<no value>`.

mod eval;
mod functions;
mod lex;
mod parse;

use serde_json::Value;

use parse::Node;

/// A template that was read and can be filled in.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// What is wrong with a template, or with filling it in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: {problem} (at character {})", at + 1)]
pub(crate) struct TemplateError {
    /// Offset in characters.
    pub(crate) at: usize,
    /// What is wrong.
    pub(crate) problem: String,
}

impl TemplateError {
    fn new(at: usize, problem: impl Into<String>) -> Self {
        Self {
            at,
            problem: problem.into(),
        }
    }
}

impl Template {
    /// Reads a template. `\t` and `\n` written as two characters are a tab and a line end, since a
    /// shell hands them over so.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        Ok(Self {
            nodes: parse::template(lex::tokens(&text)?)?,
        })
    }

    /// Fills it in.
    pub(crate) fn fill(&self, data: &Value) -> Result<String, TemplateError> {
        eval::fill(&self.nodes, data)
    }
}

#[cfg(test)]
mod tests;
