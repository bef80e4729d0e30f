//! Placement constraints: the grammar `key == value` and what it means for a node.

use std::net::IpAddr;
use std::str::FromStr;

use crate::Node;
use crate::node::NodeDescription;

const NODE_LABEL_PREFIX: &str = "node.labels.";
const ENGINE_LABEL_PREFIX: &str = "engine.labels.";

/// Signs a value may hold besides letters, digits and blanks (S6.21). None has a special meaning.
const VALUE_SIGNS: &str = ":-_.*()?+[]\\^$|/";

/// A condition a node must fulfil to take a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    key: Key,
    operator: Operator,
    value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    NodeId,
    Hostname,
    Ip,
    Role,
    Os,
    Arch,
    /// Label set on the node object; its name keeps its case.
    NodeLabel(String),
    /// Label given to the daemon on its machine; its name keeps its case.
    EngineLabel(String),
    /// A key nobody knows: it never matches, whatever the operator (S6.23).
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
}

/// A text that is not a constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// Neither `==` nor `!=`.
    #[error(
        "constraint {constraint:?} has no operator: expected == or !=, as in node.role==worker"
    )]
    Operator {
        /// The whole text.
        constraint: String,
    },
    /// The part before the operator.
    #[error(
        "key {key:?} in constraint {constraint:?} is invalid: expected at least two of letters, \
         digits, '-', '_' and '.', starting with a letter or '_'"
    )]
    Key {
        /// The whole text.
        constraint: String,
        /// The part that is wrong.
        key: String,
    },
    /// The part after the operator.
    #[error(
        "value {value:?} in constraint {constraint:?} is invalid: expected at least one of \
         letters, digits, blanks and {VALUE_SIGNS}"
    )]
    Value {
        /// The whole text.
        constraint: String,
        /// The part that is wrong.
        value: String,
    },
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        let constraint = || text.to_owned();
        // `==` is looked for first, so `a!=b==c` has the key `a!=b` and is refused (S6.20).
        let (operator, (key, value)) = [(Operator::Equal, "=="), (Operator::NotEqual, "!=")]
            .into_iter()
            .find_map(|(operator, sign)| Some((operator, text.split_once(sign)?)))
            .ok_or_else(|| ConstraintError::Operator {
                constraint: constraint(),
            })?;
        let (key, value) = (key.trim(), value.trim());
        if !is_key(key) {
            return Err(ConstraintError::Key {
                constraint: constraint(),
                key: key.to_owned(),
            });
        }
        if !is_value(value) {
            return Err(ConstraintError::Value {
                constraint: constraint(),
                value: value.to_owned(),
            });
        }
        Ok(Self {
            key: Key::named(key),
            operator,
            value: value.to_owned(),
        })
    }
}

fn is_key(key: &str) -> bool {
    let mut chars = key.chars();
    let starts = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let rest = chars.as_str();
    starts
        && !rest.is_empty()
        && rest
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_value(value: &str) -> bool {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || VALUE_SIGNS.contains(c);
    !value.is_empty() && value.chars().all(allowed)
}

impl Key {
    fn named(key: &str) -> Self {
        let label = |prefix: &str| {
            let (head, name) = key.split_at_checked(prefix.len())?;
            (head.eq_ignore_ascii_case(prefix) && !name.is_empty()).then(|| name.to_owned())
        };
        if let Some(name) = label(NODE_LABEL_PREFIX) {
            return Self::NodeLabel(name);
        }
        if let Some(name) = label(ENGINE_LABEL_PREFIX) {
            return Self::EngineLabel(name);
        }
        match key.to_ascii_lowercase().as_str() {
            "node.id" => Self::NodeId,
            "node.hostname" => Self::Hostname,
            "node.ip" => Self::Ip,
            "node.role" => Self::Role,
            "node.platform.os" => Self::Os,
            "node.platform.arch" => Self::Arch,
            _ => Self::Unknown,
        }
    }
}

impl Constraint {
    /// Reads all constraints of a placement.
    ///
    /// # Errors
    /// The first one that is not a constraint.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, ConstraintError> {
        texts.iter().map(|text| text.parse()).collect()
    }

    /// False for a key nobody knows: such a constraint keeps a task off every node.
    #[must_use]
    pub fn has_known_key(&self) -> bool {
        self.key != Key::Unknown
    }

    /// Whether `node` fulfils it. What a node has not told of itself yet counts as empty.
    #[must_use]
    pub fn matches(&self, node: &Node) -> bool {
        let told =
            |field: fn(&NodeDescription) -> &str| node.description.as_ref().map_or("", field);
        match &self.key {
            Key::NodeId => self.holds(self.is(node.id.as_str())),
            Key::Hostname => self.holds(self.is(told(|d| &d.hostname))),
            Key::Ip => self
                .covers(node.status.addr)
                .is_some_and(|covers| self.holds(covers)),
            Key::Role => self.holds(self.is(&node.role.to_string())),
            Key::Os => self.holds(self.is(told(|d| &d.platform.os))),
            Key::Arch => self.holds(same_architecture(
                &self.value,
                told(|d| &d.platform.architecture),
            )),
            Key::NodeLabel(name) => {
                self.holds(self.is(node.spec.labels.get(name).map_or("", String::as_str)))
            }
            Key::EngineLabel(name) => {
                let labels = node.description.as_ref().map(|d| &d.engine_labels);
                let value = labels.and_then(|labels| labels.get(name));
                self.holds(self.is(value.map_or("", String::as_str)))
            }
            Key::Unknown => false,
        }
    }

    fn holds(&self, equal: bool) -> bool {
        match self.operator {
            Operator::Equal => equal,
            Operator::NotEqual => !equal,
        }
    }

    fn is(&self, value: &str) -> bool {
        self.value.eq_ignore_ascii_case(value)
    }

    /// Whether the value, an address or network, holds `addr`; nothing when it is neither (S6.25).
    fn covers(&self, addr: Option<IpAddr>) -> Option<bool> {
        let addr = addr.map(|addr| addr.to_canonical());
        if let Ok(wanted) = self.value.parse::<IpAddr>() {
            return Some(addr == Some(wanted.to_canonical()));
        }
        let (network, length) = self.value.split_once('/')?;
        let network: IpAddr = network.parse().ok()?;
        // `u8` would also take a sign, which no network has.
        let length: u32 = length
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| length.parse().ok())??;
        match (network, addr) {
            (IpAddr::V4(_), _) if length > 32 => None,
            (IpAddr::V6(_), _) if length > 128 => None,
            (IpAddr::V4(network), Some(IpAddr::V4(addr))) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                Some(network.to_bits() & mask == addr.to_bits() & mask)
            }
            (IpAddr::V6(network), Some(IpAddr::V6(addr))) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                Some(network.to_bits() & mask == addr.to_bits() & mask)
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => Some(false),
        }
    }
}

/// Whether every constraint holds on `node`.
#[must_use]
pub fn all_match(constraints: &[Constraint], node: &Node) -> bool {
    constraints
        .iter()
        .all(|constraint| constraint.matches(node))
}

/// Whether two names mean one architecture: the kernel says `x86_64` and `aarch64`, image indexes
/// say `amd64` and `arm64`. Case does not matter.
#[must_use]
pub fn same_architecture(a: &str, b: &str) -> bool {
    fn common_name(name: &str) -> String {
        match name.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        }
    }
    common_name(a) == common_name(b)
}

#[cfg(test)]
mod tests;
