//! Puts the words of a template together: text, outputs and blocks.

use serde_json::Value;

use super::TemplateError;
use super::lex::{Kind, Token};

/// One piece of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Output(Pipeline),
    If {
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    With {
        pipeline: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        pipeline: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// `$x := .A | upper`: each command's result is the last argument of the next.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub(super) at: usize,
    /// Variables it sets; two only in `range`.
    pub(super) variables: Vec<String>,
    /// They exist already (`=`).
    pub(super) assign: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand, or a function and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
}

#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) kind: OperandKind,
    /// Fields taken of it, one after the other.
    pub(super) fields: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) enum OperandKind {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Pipeline),
}

/// Puts a whole template together.
pub(super) fn template(tokens: Vec<Token>) -> Result<Vec<Node>, TemplateError> {
    let end = tokens.last().map_or(0, |token| token.at);
    let mut parser = Parser {
        tokens: tokens.into_iter().peekable(),
        last_at: end,
    };
    let (nodes, closing) = parser.nodes()?;
    match closing {
        None => Ok(nodes),
        Some((word, at)) => Err(TemplateError::new(
            at,
            format!("{{{{{word}}}}} does not belong to any block"),
        )),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    last_at: usize,
}

type Closing = Option<(String, usize)>;

impl Parser {
    /// Pieces up to the end of the template or an `else` or `end`, whose word is returned. After
    /// `else` the rest of that action is still to be read.
    fn nodes(&mut self) -> Result<(Vec<Node>, Closing), TemplateError> {
        let mut nodes = vec![];
        while let Some(token) = self.tokens.next() {
            match token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                Kind::Open => match self.keyword() {
                    Some((word, at)) => match word.as_str() {
                        "end" => {
                            self.close()?;
                            return Ok((nodes, Some((word, at))));
                        }
                        "else" => return Ok((nodes, Some((word, at)))),
                        "if" => nodes.push(self.if_block(at)?),
                        "with" => {
                            nodes.push(self.block(at, |pipeline, body, otherwise| Node::With {
                                pipeline,
                                body,
                                otherwise,
                            })?)
                        }
                        "range" => {
                            nodes.push(self.block(at, |pipeline, body, otherwise| Node::Range {
                                pipeline,
                                body,
                                otherwise,
                            })?)
                        }
                        _ => {
                            return Err(TemplateError::new(
                                at,
                                format!("{{{{{word}}}}} is not supported"),
                            ));
                        }
                    },
                    None => {
                        let pipeline = self.pipeline()?;
                        self.close()?;
                        nodes.push(Node::Output(pipeline));
                    }
                },
                _ => {
                    return Err(TemplateError::new(
                        token.at,
                        "only text or an action fits here",
                    ));
                }
            }
        }
        Ok((nodes, None))
    }

    /// The word of a block, if the action begins with one.
    fn keyword(&mut self) -> Option<(String, usize)> {
        const KEYWORDS: [&str; 10] = [
            "if", "else", "end", "range", "with", "define", "template", "block", "break",
            "continue",
        ];
        let token = self.tokens.next_if(
            |token| matches!(&token.kind, Kind::Word(word) if KEYWORDS.contains(&word.as_str())),
        )?;
        match token.kind {
            Kind::Word(word) => Some((word, token.at)),
            _ => None,
        }
    }

    fn if_block(&mut self, at: usize) -> Result<Node, TemplateError> {
        let mut branches = vec![];
        loop {
            let pipeline = self.pipeline()?;
            self.close()?;
            let (body, closing) = self.nodes()?;
            branches.push((pipeline, body));
            match closing {
                None => return Err(unclosed(at, "if")),
                Some((word, _)) if word == "end" => {
                    return Ok(Node::If {
                        branches,
                        otherwise: vec![],
                    });
                }
                Some(_) => {
                    if matches!(self.keyword(), Some((word, _)) if word == "if") {
                        continue;
                    }
                    self.close()?;
                    let otherwise = self.last_part(at, "if")?;
                    return Ok(Node::If {
                        branches,
                        otherwise,
                    });
                }
            }
        }
    }

    fn block(
        &mut self,
        at: usize,
        make: impl Fn(Pipeline, Vec<Node>, Vec<Node>) -> Node,
    ) -> Result<Node, TemplateError> {
        let pipeline = self.pipeline()?;
        self.close()?;
        let (body, closing) = self.nodes()?;
        match closing {
            None => Err(unclosed(at, "range or with")),
            Some((word, _)) if word == "end" => Ok(make(pipeline, body, vec![])),
            Some(_) => {
                self.close()?;
                let otherwise = self.last_part(at, "range or with")?;
                Ok(make(pipeline, body, otherwise))
            }
        }
    }

    /// What follows a plain `{{else}}`, up to its `{{end}}`.
    fn last_part(&mut self, at: usize, block: &str) -> Result<Vec<Node>, TemplateError> {
        let (nodes, closing) = self.nodes()?;
        match closing {
            Some((word, _)) if word == "end" => Ok(nodes),
            Some((_, at)) => Err(TemplateError::new(at, "a second {{else}}")),
            None => Err(unclosed(at, block)),
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let at = self.at();
        let (variables, assign) = self.variables()?;
        let mut commands = vec![self.command()?];
        while self
            .tokens
            .next_if(|token| token.kind == Kind::Pipe)
            .is_some()
        {
            commands.push(self.command()?);
        }
        Ok(Pipeline {
            at,
            variables,
            assign,
            commands,
        })
    }

    /// `$x :=`, `$x =`, `$i, $x :=` at the start of a pipeline.
    fn variables(&mut self) -> Result<(Vec<String>, bool), TemplateError> {
        let mut ahead = self.tokens.clone();
        let mut names = vec![];
        loop {
            let Some(Token {
                kind: Kind::Variable(name),
                ..
            }) = ahead.next()
            else {
                return Ok((vec![], false));
            };
            names.push(name);
            match ahead.next().map(|token| token.kind) {
                Some(Kind::Comma) if names.len() == 1 => {}
                Some(kind @ (Kind::Declare | Kind::Assign)) => {
                    if names.iter().any(String::is_empty) {
                        return Err(TemplateError::new(self.at(), "$ alone cannot be set"));
                    }
                    self.tokens = ahead;
                    return Ok((names, kind == Kind::Assign));
                }
                Some(_) | None => return Ok((vec![], false)),
            }
        }
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let mut operands = vec![];
        while let Some(operand) = self.operand()? {
            operands.push(operand);
        }
        if operands.is_empty() {
            return Err(TemplateError::new(self.at(), "a value is missing"));
        }
        Ok(Command { operands })
    }

    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let starts = |token: &Token| {
            !matches!(
                token.kind,
                Kind::Text(_) | Kind::Open | Kind::Close | Kind::Pipe | Kind::RightParen
            )
        };
        let Some(Token { kind, at, .. }) = self.tokens.next_if(starts) else {
            return Ok(None);
        };
        let mut fields = vec![];
        let kind = match kind {
            Kind::Dot => OperandKind::Dot,
            Kind::Field(name) => {
                fields.push(name);
                OperandKind::Dot
            }
            Kind::Variable(name) => OperandKind::Variable(name),
            Kind::String(text) => OperandKind::Literal(Value::String(text)),
            Kind::Number(number) => OperandKind::Literal(Value::Number(number)),
            Kind::Word(word) => match word.as_str() {
                "true" => OperandKind::Literal(Value::Bool(true)),
                "false" => OperandKind::Literal(Value::Bool(false)),
                "nil" => OperandKind::Literal(Value::Null),
                _ => OperandKind::Function(word),
            },
            Kind::LeftParen => {
                let group = self.pipeline()?;
                if self
                    .tokens
                    .next_if(|token| token.kind == Kind::RightParen)
                    .is_none()
                {
                    return Err(TemplateError::new(at, "\"(\" is not closed by \")\""));
                }
                OperandKind::Group(group)
            }
            Kind::Comma | Kind::Declare | Kind::Assign => {
                return Err(TemplateError::new(at, "a sign that has no meaning here"));
            }
            Kind::Text(_) | Kind::Open | Kind::Close | Kind::Pipe | Kind::RightParen => {
                return Ok(None);
            }
        };
        let chained = |token: &Token| !token.spaced && matches!(token.kind, Kind::Field(_));
        while let Some(Token {
            kind: Kind::Field(name),
            ..
        }) = self.tokens.next_if(chained)
        {
            fields.push(name);
        }
        Ok(Some(Operand { at, kind, fields }))
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        match self.tokens.next() {
            Some(Token {
                kind: Kind::Close, ..
            }) => Ok(()),
            Some(token) => Err(TemplateError::new(token.at, "\"}}\" is expected here")),
            None => Err(TemplateError::new(self.last_at, "\"}}\" is missing")),
        }
    }

    fn at(&mut self) -> usize {
        self.tokens.peek().map_or(self.last_at, |token| token.at)
    }
}

fn unclosed(at: usize, block: &str) -> TemplateError {
    TemplateError::new(
        at,
        format!("the {block} block is not closed by {{{{end}}}}"),
    )
}
