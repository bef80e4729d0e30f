//! Tables as values: what should stand in the kernel, or what was read from it.

use std::collections::BTreeMap;

use crate::expression::Expressions;

/// Which packets a table sees, with the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    Inet = 1,
    V4 = 2,
    Netdev = 5,
    V6 = 10,
}

impl Family {
    pub(crate) const ALL: [Self; 4] = [Self::Inet, Self::V4, Self::Netdev, Self::V6];

    pub(crate) fn number(self) -> u8 {
        self as u8
    }
}

/// A table's place: names are unique within a family.
pub(crate) type TableName = (Family, String);

/// Some tables of one network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) tables: BTreeMap<TableName, Table>,
}

/// Maps, sets and chains that refer to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) maps: BTreeMap<String, Map>,
    pub(crate) chains: BTreeMap<String, Chain>,
}

/// A map, or a set if its elements carry no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) shape: Shape,
    pub(crate) elements: Elements,
}

pub(crate) type Elements = BTreeMap<Vec<u8>, Value>;

/// What a map maps to what. Types only tell `nft list` how to print; lengths are what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) key: Format,
    pub(crate) value: ValueShape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueShape {
    Nothing,
    Verdict,
    Bytes(Format),
}

/// Length in bytes, and `nft`'s number for the type: six bits a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) print_as: u32,
    pub(crate) length: u32,
}

/// Numbers of `nft`'s types.
pub(crate) mod print_as {
    pub(crate) const INTEGER: u32 = 4;
    pub(crate) const ADDRESS_V4: u32 = 7;
    pub(crate) const ADDRESS_V6: u32 = 8;
    pub(crate) const PROTOCOL: u32 = 12;
    pub(crate) const PORT: u32 = 13;
    pub(crate) const MARK: u32 = 19;

    /// Several fields in one key or value.
    pub(crate) const fn joined(fields: &[u32]) -> u32 {
        let mut joined = 0;
        let mut index = 0;
        while index < fields.len() {
            joined = (joined << 6) | fields[index];
            index += 1;
        }
        joined
    }
}

/// What an element's key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Nothing,
    Bytes(Vec<u8>),
    Goto(String),
}

/// Rules in order, and where packets come from if not from another chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

/// Where packets enter a chain. Equal priorities run in the order they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `filter`, `nat` or `route`.
    pub(crate) kind: String,
    pub(crate) number: u32,
    pub(crate) priority: i32,
    /// The interface, for the netdev family.
    pub(crate) device: Option<String>,
}

impl Hook {
    pub(crate) const PREROUTING: u32 = 0;
    pub(crate) const FORWARD: u32 = 2;
    pub(crate) const OUTPUT: u32 = 3;
    pub(crate) const POSTROUTING: u32 = 4;
    /// Of the netdev family.
    pub(crate) const EGRESS: u32 = 1;

    pub(crate) fn new(kind: &str, number: u32, priority: i32) -> Self {
        Self {
            kind: kind.to_owned(),
            number,
            priority,
            device: None,
        }
    }
}

/// A rule. Two are equal if they carry the same fingerprint and as many expressions: the kernel
/// gives expressions back in other words, but keeps the fingerprint with the rule it was made for.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) fingerprint: u64,
    pub(crate) count: u32,
    /// Empty if it was read from the kernel.
    pub(crate) expressions: Vec<u8>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        (self.fingerprint, self.count) == (other.fingerprint, other.count)
    }
}

impl Eq for Rule {}

impl From<Expressions> for Rule {
    fn from(expressions: Expressions) -> Self {
        Self {
            fingerprint: fnv1a(expressions.bytes()),
            count: expressions.count(),
            expressions: expressions.into_bytes(),
        }
    }
}

/// FNV-1a, 64 bits: the same on every machine and in every release.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Ruleset {
    /// The table, made empty if there is none.
    pub(crate) fn table(&mut self, family: Family, name: &str) -> &mut Table {
        self.tables.entry((family, name.to_owned())).or_default()
    }
}

impl Table {
    pub(crate) fn chain(&mut self, name: &str, hook: Option<Hook>, rules: Vec<Expressions>) {
        let rules = rules.into_iter().map(Rule::from).collect();
        self.chains.insert(name.to_owned(), Chain { hook, rules });
    }

    pub(crate) fn map(&mut self, name: &str, shape: Shape, elements: Elements) {
        self.maps.insert(name.to_owned(), Map { shape, elements });
    }
}
