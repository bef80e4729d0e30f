//! Fills a template in.

use serde_json::Value;

use super::TemplateError;
use super::functions;
use super::parse::{Command, Node, Operand, OperandKind, Pipeline};

/// Objects whose keys are the user's: a missing one is no mistake.
const USER_MAPS: [&str; 1] = ["Labels"];

/// Fills in the nodes of a template with `data` as dot.
pub(super) fn fill(nodes: &[Node], data: &Value) -> Result<String, TemplateError> {
    let mut filling = Filling {
        out: String::new(),
        variables: vec![(String::new(), data.clone())],
    };
    filling.nodes(nodes, data)?;
    Ok(filling.out)
}

struct Filling {
    out: String,
    /// Innermost last; `$` itself has the empty name.
    variables: Vec<(String, Value)>,
}

type Evaluated = Result<Value, TemplateError>;

impl Filling {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        for node in nodes {
            self.node(node, dot)?;
        }
        Ok(())
    }

    /// Variables set inside a block end with it.
    fn scope(&mut self, nodes: &[Node], dot: &Value, outer: usize) -> Result<(), TemplateError> {
        let result = self.nodes(nodes, dot);
        self.variables.truncate(outer);
        result
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Output(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&functions::text(&value));
                }
            }
            Node::If {
                branches,
                otherwise,
            } => {
                for (condition, body) in branches {
                    if functions::is_true(&self.pipeline(condition, dot)?) {
                        return self.scope(body, dot, outer);
                    }
                }
                return self.scope(otherwise, dot, outer);
            }
            Node::With {
                pipeline,
                body,
                otherwise,
            } => {
                let value = self.pipeline(pipeline, dot)?;
                if functions::is_true(&value) {
                    return self.scope(body, &value, outer);
                }
                return self.scope(otherwise, dot, outer);
            }
            Node::Range {
                pipeline,
                body,
                otherwise,
            } => {
                return self.range(pipeline, body, otherwise, dot);
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        let items: Vec<(Value, Value)> = match self.commands(pipeline, dot)? {
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| (Value::from(i), item))
                .collect(),
            Value::Object(map) => {
                let mut items: Vec<_> = map.into_iter().collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items
                    .into_iter()
                    .map(|(key, item)| (Value::from(key), item))
                    .collect()
            }
            Value::Null => vec![],
            value @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                return Err(TemplateError::new(
                    pipeline.at,
                    format!("range cannot go over {}", functions::kind(&value)),
                ));
            }
        };
        if items.is_empty() {
            return self.scope(otherwise, dot, outer);
        }
        for (key, item) in items {
            match pipeline.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one.clone(), item.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), item.clone()));
                }
            }
            self.scope(body, &item, outer)?;
        }
        Ok(())
    }

    /// The value of a pipeline; sets its variable, if it has one.
    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Evaluated {
        let value = self.commands(pipeline, dot)?;
        match pipeline.variables.as_slice() {
            [] => {}
            [name] if pipeline.assign => {
                let known = self
                    .variables
                    .iter_mut()
                    .rev()
                    .find(|(known, _)| known == name);
                match known {
                    Some((_, stored)) => *stored = value.clone(),
                    None => return Err(undefined(pipeline.at, name)),
                }
            }
            [name] => self.variables.push((name.clone(), value.clone())),
            _ => {
                return Err(TemplateError::new(
                    pipeline.at,
                    "two variables are for range only",
                ));
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Evaluated {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or(Value::Null))
    }

    fn command(&mut self, command: &Command, piped: Option<Value>, dot: &Value) -> Evaluated {
        let (first, rest) = command
            .operands
            .split_first()
            .expect("the parser makes no empty command");
        if let OperandKind::Function(name) = &first.kind {
            let mut arguments = rest
                .iter()
                .map(|operand| self.operand(operand, dot))
                .collect::<Result<Vec<_>, _>>()?;
            arguments.extend(piped);
            let value = functions::call(name, &arguments)
                .map_err(|problem| TemplateError::new(first.at, problem))?;
            return fields(value, &first.fields, first.at);
        }
        if !rest.is_empty() || piped.is_some() {
            return Err(TemplateError::new(
                first.at,
                "this is not a function: it takes no value",
            ));
        }
        self.operand(first, dot)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Evaluated {
        let value = match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Literal(value) => value.clone(),
            OperandKind::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known
                    .map(|(_, value)| value.clone())
                    .ok_or_else(|| undefined(operand.at, name))?
            }
            OperandKind::Function(name) => {
                functions::call(name, &[]).map_err(|p| TemplateError::new(operand.at, p))?
            }
            OperandKind::Group(pipeline) => self.commands(pipeline, dot)?,
        };
        fields(value, &operand.fields, operand.at)
    }
}

fn undefined(at: usize, name: &str) -> TemplateError {
    TemplateError::new(at, format!("variable ${name} is not defined"))
}

fn fields(mut value: Value, fields: &[String], at: usize) -> Evaluated {
    let mut path = String::new();
    for (index, field) in fields.iter().enumerate() {
        value = match value {
            Value::Object(mut map) => match map.shift_remove(field) {
                Some(value) => value,
                None if index > 0 && USER_MAPS.contains(&fields[index - 1].as_str()) => Value::Null,
                None => {
                    let mut known: Vec<&str> = map.keys().map(String::as_str).collect();
                    known.sort_unstable();
                    let known = known.join(", ");
                    return Err(TemplateError::new(
                        at,
                        format!("no field {path}.{field}: there are {known}"),
                    ));
                }
            },
            Value::Null => {
                return Err(TemplateError::new(
                    at,
                    format!("no field {path}.{field}: {path} has no value here"),
                ));
            }
            value => {
                return Err(TemplateError::new(
                    at,
                    format!(
                        "no field {path}.{field}: {path} is {}",
                        functions::kind(&value)
                    ),
                ));
            }
        };
        path = format!("{path}.{field}");
    }
    Ok(value)
}
