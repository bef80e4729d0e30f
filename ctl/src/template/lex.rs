//! Cuts a template into text and the words of its actions.

use super::TemplateError;

/// One word of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Offset in characters.
    pub(super) at: usize,
    /// A blank stands before it, which tells `.A .B` from `.A.B`.
    pub(super) spaced: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Text(String),
    /// `{{` and `}}`.
    Open,
    Close,
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    Word(String),
    String(String),
    Number(serde_json::Number),
    Pipe,
    Comma,
    Declare,
    Assign,
    LeftParen,
    RightParen,
}

/// Cuts the whole template.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        tokens: vec![],
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer {
    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trim_start = false;
        while self.at < self.chars.len() {
            let start = self.at;
            while self.at < self.chars.len() && !self.looking_at("{{") {
                self.at += 1;
            }
            let ends_here = self.at == self.chars.len();
            let trim_end = !ends_here
                && self.looking_at("{{-")
                && self.peek(3).is_some_and(char::is_whitespace);
            let mut text: String = self.chars[start..self.at].iter().collect();
            if trim_start {
                text = text.trim_start().to_owned();
            }
            if trim_end {
                text = text.trim_end().to_owned();
            }
            if !text.is_empty() {
                self.push(Kind::Text(text), start, false);
            }
            if ends_here {
                break;
            }
            trim_start = self.action(if trim_end { 3 } else { 2 })?;
        }
        Ok(())
    }

    /// One `{{ … }}`. True when the text after it loses its leading blanks.
    fn action(&mut self, opening_len: usize) -> Result<bool, TemplateError> {
        let opened_at = self.at;
        self.at += opening_len;
        if self.rest_starts_comment() {
            return self.comment(opened_at);
        }
        self.push(Kind::Open, opened_at, false);
        loop {
            let before = self.at;
            self.skip_blanks();
            let spaced = self.at > before;
            let at = self.at;
            if self.at >= self.chars.len() {
                return Err(TemplateError::new(
                    opened_at,
                    "\"{{\" is not closed by \"}}\"",
                ));
            }
            if self.looking_at("}}") {
                self.at += 2;
                self.push(Kind::Close, at, spaced);
                return Ok(false);
            }
            if spaced && self.looking_at("-}}") {
                self.at += 3;
                self.push(Kind::Close, at, spaced);
                return Ok(true);
            }
            let kind = self.word()?;
            self.push(kind, at, spaced);
        }
    }

    fn rest_starts_comment(&self) -> bool {
        let mut at = self.at;
        while self.chars.get(at).is_some_and(|c| c.is_whitespace()) {
            at += 1;
        }
        self.chars.get(at) == Some(&'/') && self.chars.get(at + 1) == Some(&'*')
    }

    fn comment(&mut self, opened_at: usize) -> Result<bool, TemplateError> {
        while self.at < self.chars.len() && !self.looking_at("*/") {
            self.at += 1;
        }
        self.at = (self.at + 2).min(self.chars.len());
        self.skip_blanks();
        if self.looking_at("-}}") {
            self.at += 3;
            return Ok(true);
        }
        if self.looking_at("}}") {
            self.at += 2;
            return Ok(false);
        }
        Err(TemplateError::new(
            opened_at,
            "the comment is not closed by \"*/}}\"",
        ))
    }

    fn word(&mut self) -> Result<Kind, TemplateError> {
        let at = self.at;
        let Some(c) = self.peek(0) else {
            return Err(TemplateError::new(at, "the template ends inside an action"));
        };
        let single = match c {
            '|' => Some(Kind::Pipe),
            ',' => Some(Kind::Comma),
            '(' => Some(Kind::LeftParen),
            ')' => Some(Kind::RightParen),
            '=' => Some(Kind::Assign),
            _ => None,
        };
        if let Some(kind) = single {
            self.at += 1;
            return Ok(kind);
        }
        match c {
            ':' if self.peek(1) == Some('=') => {
                self.at += 2;
                Ok(Kind::Declare)
            }
            '.' => {
                self.at += 1;
                let name = self.name();
                Ok(if name.is_empty() {
                    Kind::Dot
                } else {
                    Kind::Field(name)
                })
            }
            '$' => {
                self.at += 1;
                Ok(Kind::Variable(self.name()))
            }
            '"' => self.quoted(),
            '`' => self.raw(),
            '-' | '+' | '0'..='9' => self.number(),
            _ => {
                let name = self.name();
                if name.is_empty() {
                    return Err(TemplateError::new(at, format!("{c:?} has no meaning here")));
                }
                Ok(Kind::Word(name))
            }
        }
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while self
            .peek(0)
            .is_some_and(|c| c.is_alphanumeric() || c == '_')
        {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn number(&mut self) -> Result<Kind, TemplateError> {
        let start = self.at;
        self.at += 1;
        while self
            .peek(0)
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == '.')
        {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        let unsigned = text.strip_prefix('+').unwrap_or(&text);
        serde_json::from_str(unsigned)
            .map(Kind::Number)
            .map_err(|_| TemplateError::new(start, format!("{text:?} is not a number")))
    }

    fn quoted(&mut self) -> Result<Kind, TemplateError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '"' => return Ok(Kind::String(text)),
                '\\' => {
                    let escaped = self.peek(0);
                    self.at += 1;
                    text.push(match escaped {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('r') => '\r',
                        Some(c @ ('"' | '\\' | '\'')) => c,
                        Some(_) | None => {
                            return Err(TemplateError::new(
                                self.at - 2,
                                "unknown escape: there are \\n, \\t, \\r, \\\" and \\\\",
                            ));
                        }
                    });
                }
                c => text.push(c),
            }
        }
        Err(TemplateError::new(
            start,
            "the string is not closed by '\"'",
        ))
    }

    fn raw(&mut self) -> Result<Kind, TemplateError> {
        let start = self.at;
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == '`' {
                return Ok(Kind::String(
                    self.chars[start + 1..self.at - 1].iter().collect(),
                ));
            }
        }
        Err(TemplateError::new(start, "the string is not closed by '`'"))
    }

    fn skip_blanks(&mut self) {
        while self.peek(0).is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn push(&mut self, kind: Kind, at: usize, spaced: bool) {
        self.tokens.push(Token { kind, at, spaced });
    }
}
