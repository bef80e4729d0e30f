//! The difference between two rulesets as steps, and each step as messages to the kernel.

use std::fmt;

use crate::expression::{Verdict, write_verdict};
use crate::table::{
    Chain, Elements, Family, Hook, Map, Rule, Ruleset, Shape, Table, TableName, Value, ValueShape,
};
use crate::transaction::{Message, Transaction};

/// Bytes of elements in one message at most; an attribute holds less than 64 KiB.
const CHUNK_BYTES_MAX: usize = 48 << 10;

/// One step, within the table it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) table: TableName,
    pub(crate) what: What,
}

/// Steps in the order in which they must be done: what is referred to comes before what refers to
/// it, and goes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    DropTable,
    AddTable,
    AddMap(String, Shape),
    AddChain(String, Option<Hook>),
    FlushChain(String),
    RemoveElements(String, Vec<Vec<u8>>),
    AddRules(String, Vec<Rule>),
    AddElements(String, Vec<(Vec<u8>, Value)>),
    RemoveChain(String),
    RemoveMap(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, table) = &self.table;
        match &self.what {
            What::DropTable => write!(f, "removing table"),
            What::AddTable => write!(f, "adding table"),
            What::AddMap(map, _) => write!(f, "adding map {map}"),
            What::AddChain(chain, _) => write!(f, "adding chain {chain}"),
            What::FlushChain(chain) => write!(f, "emptying chain {chain}"),
            What::RemoveElements(map, keys) => {
                write!(f, "removing {} elements of {map}", keys.len())
            }
            What::AddElements(map, elements) => {
                write!(f, "adding {} elements to {map}", elements.len())
            }
            What::AddRules(chain, rules) => write!(f, "adding {} rules to {chain}", rules.len()),
            What::RemoveChain(chain) => write!(f, "removing chain {chain}"),
            What::RemoveMap(map) => write!(f, "removing map {map}"),
        }?;
        write!(f, " ({family:?} {table})")
    }
}

impl What {
    fn rank(&self) -> u8 {
        match self {
            Self::DropTable => 0,
            Self::AddTable => 1,
            Self::AddMap(..) => 2,
            Self::AddChain(..) => 3,
            Self::FlushChain(_) => 4,
            Self::RemoveElements(..) => 5,
            // A rule that looks into a map makes the kernel walk through all its elements.
            Self::AddRules(..) => 6,
            Self::AddElements(..) => 7,
            Self::RemoveChain(_) => 8,
            Self::RemoveMap(_) => 9,
        }
    }
}

/// What turns one ruleset into the other, in an order the kernel accepts.
pub(crate) fn difference(current: &Ruleset, desired: &Ruleset) -> Vec<Change> {
    let mut changes = Vec::new();
    for name in current.tables.keys() {
        if !desired.tables.contains_key(name) {
            push(&mut changes, name, What::DropTable);
        }
    }
    for (name, wanted) in &desired.tables {
        let found = current.tables.get(name);
        match found {
            Some(found) if same_structure(found, wanted) => {
                change_table(name, found, wanted, &mut changes);
            }
            Some(_) => {
                push(&mut changes, name, What::DropTable);
                push(&mut changes, name, What::AddTable);
                change_table(name, &Table::default(), wanted, &mut changes);
            }
            None => {
                push(&mut changes, name, What::AddTable);
                change_table(name, &Table::default(), wanted, &mut changes);
            }
        }
    }
    order(&mut changes);
    changes
}

/// Puts steps into the order the kernel accepts; equal ones stay as they were.
pub(crate) fn order(changes: &mut [Change]) {
    changes.sort_by_key(|change| change.what.rank());
}

fn push(changes: &mut Vec<Change>, table: &TableName, what: What) {
    changes.push(Change {
        table: table.clone(),
        what,
    });
}

/// A map's shape and a chain's hook cannot be changed: such a table is made anew, in the same
/// transaction, so that no packet meets anything between.
fn same_structure(found: &Table, wanted: &Table) -> bool {
    let maps = wanted.maps.iter().all(|(name, map)| {
        found
            .maps
            .get(name)
            .is_none_or(|found| found.shape == map.shape)
    });
    let chains = wanted.chains.iter().all(|(name, chain)| {
        found
            .chains
            .get(name)
            .is_none_or(|found| found.hook == chain.hook)
    });
    maps && chains
}

fn change_table(name: &TableName, found: &Table, wanted: &Table, changes: &mut Vec<Change>) {
    for (map, Map { shape, elements }) in &wanted.maps {
        let none = Elements::new();
        let before = match found.maps.get(map) {
            Some(found) => &found.elements,
            None => {
                push(changes, name, What::AddMap(map.clone(), *shape));
                &none
            }
        };
        change_elements(name, map, before, elements, changes);
    }
    for (chain, wanted) in &wanted.chains {
        change_chain(name, chain, found.chains.get(chain), wanted, changes);
    }
    for (chain, found) in &found.chains {
        if !wanted.chains.contains_key(chain) {
            if !found.rules.is_empty() {
                push(changes, name, What::FlushChain(chain.clone()));
            }
            push(changes, name, What::RemoveChain(chain.clone()));
        }
    }
    for (map, found) in &found.maps {
        if !wanted.maps.contains_key(map) {
            change_elements(name, map, &found.elements, &Elements::new(), changes);
            push(changes, name, What::RemoveMap(map.clone()));
        }
    }
}

/// The steps for one chain.
pub(crate) fn change_chain(
    table: &TableName,
    chain: &str,
    found: Option<&Chain>,
    wanted: &Chain,
    changes: &mut Vec<Change>,
) {
    let before: &[Rule] = match found {
        Some(found) => &found.rules,
        None => {
            let what = What::AddChain(chain.to_owned(), wanted.hook.clone());
            push(changes, table, what);
            &[]
        }
    };
    if before == wanted.rules {
        return;
    }
    if !before.is_empty() {
        push(changes, table, What::FlushChain(chain.to_owned()));
    }
    if !wanted.rules.is_empty() {
        let what = What::AddRules(chain.to_owned(), wanted.rules.clone());
        push(changes, table, what);
    }
}

/// The steps for one map's elements.
pub(crate) fn change_elements(
    table: &TableName,
    map: &str,
    found: &Elements,
    wanted: &Elements,
    changes: &mut Vec<Change>,
) {
    let removed: Vec<Vec<u8>> = found
        .iter()
        .filter(|(key, value)| wanted.get(*key) != Some(value))
        .map(|(key, _)| key.clone())
        .collect();
    let added: Vec<(Vec<u8>, Value)> = wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !removed.is_empty() {
        push(
            changes,
            table,
            What::RemoveElements(map.to_owned(), removed),
        );
    }
    if !added.is_empty() {
        push(changes, table, What::AddElements(map.to_owned(), added));
    }
}

/// Writes the steps as one transaction.
pub(crate) fn encode(changes: &[Change]) -> Transaction {
    let mut transaction = Transaction::new();
    for change in changes {
        encode_one(&mut transaction, change);
    }
    transaction
}

fn encode_one(transaction: &mut Transaction, change: &Change) {
    let (family, table) = (change.table.0, change.table.1.as_str());
    match &change.what {
        What::DropTable => transaction.push(Message::RemoveTable, family, |a| {
            a.string(1, table);
        }),
        What::AddTable => transaction.push(Message::AddTable, family, |a| {
            a.string(1, table).number(2, 0);
        }),
        What::AddMap(map, shape) => add_map(transaction, family, table, map, *shape),
        What::AddChain(chain, hook) => {
            add_chain(transaction, family, table, chain, hook.as_ref());
        }
        What::FlushChain(chain) => transaction.push(Message::RemoveRule, family, |a| {
            a.string(1, table).string(2, chain);
        }),
        What::RemoveElements(map, keys) => {
            let elements = keys.iter().map(|key| (key.as_slice(), None));
            write_elements(
                transaction,
                Message::RemoveElements,
                &change.table,
                map,
                elements,
            );
        }
        What::AddElements(map, elements) => {
            let elements = elements
                .iter()
                .map(|(key, value)| (key.as_slice(), Some(value)));
            write_elements(
                transaction,
                Message::AddElements,
                &change.table,
                map,
                elements,
            );
        }
        What::AddRules(chain, rules) => {
            for rule in rules {
                add_rule(transaction, family, table, chain, rule);
            }
        }
        What::RemoveChain(chain) => transaction.push(Message::RemoveChain, family, |a| {
            a.string(1, table).string(3, chain);
        }),
        What::RemoveMap(map) => transaction.push(Message::RemoveMap, family, |a| {
            a.string(1, table).string(2, map);
        }),
    }
}

fn add_map(transaction: &mut Transaction, family: Family, table: &str, map: &str, shape: Shape) {
    /// `NFT_SET_MAP`
    const IS_MAP: u32 = 8;
    /// `NFT_DATA_VERDICT`
    const VERDICT: u32 = 0xffff_ff00;
    let id = transaction.next_id();
    transaction.push(Message::AddMap, family, |a| {
        a.string(1, table).string(2, map);
        a.number(
            3,
            if shape.value == ValueShape::Nothing {
                0
            } else {
                IS_MAP
            },
        );
        a.number(4, shape.key.print_as).number(5, shape.key.length);
        match shape.value {
            ValueShape::Nothing => {}
            ValueShape::Verdict => {
                a.number(6, VERDICT).number(7, 0);
            }
            ValueShape::Bytes(value) => {
                a.number(6, value.print_as).number(7, value.length);
            }
        }
        a.number(10, id);
    });
}

fn add_chain(
    transaction: &mut Transaction,
    family: Family,
    table: &str,
    chain: &str,
    hook: Option<&Hook>,
) {
    transaction.push(Message::AddChain, family, |a| {
        a.string(1, table).string(3, chain);
        if let Some(hook) = hook {
            a.nest(4, |inner| {
                inner.number(1, hook.number);
                inner.bytes(2, &hook.priority.to_be_bytes());
                if let Some(device) = &hook.device {
                    inner.string(3, device);
                }
            });
            a.string(7, &hook.kind);
        }
    });
}

fn add_rule(transaction: &mut Transaction, family: Family, table: &str, chain: &str, rule: &Rule) {
    transaction.push(Message::AddRule, family, |a| {
        a.string(1, table).string(2, chain);
        a.nested_bytes(4, &rule.expressions);
        a.bytes(7, &fingerprint_comment(rule.fingerprint));
    });
}

/// A fingerprint as the comment that `nft list` prints.
fn fingerprint_comment(fingerprint: u64) -> [u8; 19] {
    const COMMENT: u8 = 0;
    const LENGTH: u8 = 17;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0; 19];
    bytes[0] = COMMENT;
    bytes[1] = LENGTH;
    for (index, byte) in fingerprint.to_be_bytes().into_iter().enumerate() {
        bytes[2 + index * 2] = DIGITS[usize::from(byte >> 4)];
        bytes[3 + index * 2] = DIGITS[usize::from(byte & 15)];
    }
    bytes
}

/// The fingerprint in a rule's comment, or zero for a rule that is not ours.
pub(crate) fn fingerprint_in(comment: &[u8]) -> u64 {
    comment
        .get(2..18)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

fn write_elements<'a>(
    transaction: &mut Transaction,
    message: Message,
    (family, table): &TableName,
    map: &str,
    elements: impl Iterator<Item = (&'a [u8], Option<&'a Value>)>,
) {
    let mut elements = elements.peekable();
    while elements.peek().is_some() {
        transaction.push(message, *family, |a| {
            a.string(1, table).string(2, map).nest(3, |list| {
                let start = list.0.len();
                while list.0.len() - start < CHUNK_BYTES_MAX {
                    let Some((key, value)) = elements.next() else {
                        break;
                    };
                    list.nest(1, |element| {
                        element.nest(1, |data| {
                            data.bytes(1, key);
                        });
                        match value {
                            None | Some(Value::Nothing) => {}
                            Some(Value::Bytes(bytes)) => {
                                element.nest(2, |data| {
                                    data.bytes(1, bytes);
                                });
                            }
                            Some(Value::Goto(chain)) => {
                                element.nest(2, |data| {
                                    data.nest(2, |verdict| {
                                        write_verdict(verdict, Verdict::Goto(chain));
                                    });
                                });
                            }
                        }
                    });
                }
            });
        });
    }
}

#[cfg(test)]
mod tests;
