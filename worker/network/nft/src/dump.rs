//! Reading back from the kernel the tables that are ours.

use std::collections::BTreeMap;

use crate::attribute::Reader;
use crate::change::fingerprint_in;
use crate::error::{Error, Result};
use crate::socket::Socket;
use crate::table::{
    Chain, Elements, Family, Format, Hook, Map, Rule, Ruleset, Shape, Table, TableName, Value,
    ValueShape,
};
use crate::transaction::{Answer, NFTABLES, Question, dump};

const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_MAP: u16 = 10;
const GET_ELEMENTS: u16 = 13;

fn question(what: &'static str, message: u16, family: u8) -> Question {
    Question {
        what,
        kind: (NFTABLES << 8) | message,
        family,
    }
}

/// Reads the tables of these names, in whichever families they are, as they stand.
pub(crate) fn read(socket: &mut Socket, names: &[&str]) -> Result<Ruleset> {
    let mut ruleset = Ruleset::default();
    for (family, name) in read_names(socket, names)? {
        let maps = read_maps(socket, family, &name)?;
        let mut chains = read_chains(socket, family, &name)?;
        read_rules(socket, family, &name, &mut chains)?;
        let table = Table { maps, chains };
        ruleset.tables.insert((family, name), table);
    }
    Ok(ruleset)
}

fn read_names(socket: &mut Socket, names: &[&str]) -> Result<Vec<TableName>> {
    let mut found = Vec::new();
    let question = question("reading tables", GET_TABLE, 0);
    dump(
        socket,
        question,
        |_| {},
        |answer| {
            let Some(answer) = answer else {
                found.clear();
                return Ok(());
            };
            let name = Reader(answer.body).string(1).unwrap_or("");
            if let (Some(family), true) = (answer.family(), names.contains(&name)) {
                found.push((family, name.to_owned()));
            }
            Ok(())
        },
    )?;
    Ok(found)
}

fn read_maps(socket: &mut Socket, family: Family, table: &str) -> Result<BTreeMap<String, Map>> {
    let mut shapes = BTreeMap::new();
    dump(
        socket,
        question("reading maps", GET_MAP, family.number()),
        |a| {
            a.string(1, table);
        },
        |answer| {
            let Some(answer) = answer else {
                shapes.clear();
                return Ok(());
            };
            let reader = Reader(answer.body);
            if reader.string(1) == Some(table)
                && let Some(name) = reader.string(2)
            {
                shapes.insert(name.to_owned(), shape(reader)?);
            }
            Ok(())
        },
    )?;
    let mut maps = BTreeMap::new();
    for (name, shape) in shapes {
        let elements = read_elements(socket, family, table, &name, shape)?;
        maps.insert(name, Map { shape, elements });
    }
    Ok(maps)
}

fn shape(reader: Reader<'_>) -> Result<Shape> {
    let format = |kind, length| {
        Ok(Format {
            print_as: reader.number(kind).unwrap_or(0),
            length: reader.number(length).ok_or(Error::Malformed {
                what: "a map's shape",
            })?,
        })
    };
    let value = match reader.number(6) {
        None => ValueShape::Nothing,
        Some(0xffff_ff00) => ValueShape::Verdict,
        Some(_) => ValueShape::Bytes(format(6, 7)?),
    };
    let key = format(4, 5)?;
    Ok(Shape { key, value })
}

fn read_elements(
    socket: &mut Socket,
    family: Family,
    table: &str,
    map: &str,
    shape: Shape,
) -> Result<Elements> {
    let mut elements = Elements::new();
    dump(
        socket,
        question("reading elements", GET_ELEMENTS, family.number()),
        |a| {
            a.string(1, table).string(2, map);
        },
        |answer| {
            let Some(answer) = answer else {
                elements.clear();
                return Ok(());
            };
            let list = Reader(answer.body).nested(3).unwrap_or(Reader(&[]));
            for (_, element) in list {
                let (key, value) = element_in(Reader(element), shape).ok_or(Error::Malformed {
                    what: "an element of a map",
                })?;
                elements.insert(key, value);
            }
            Ok(())
        },
    )?;
    Ok(elements)
}

fn element_in(reader: Reader<'_>, shape: Shape) -> Option<(Vec<u8>, Value)> {
    let key = reader.nested(1)?.find(1)?.to_vec();
    let value = match shape.value {
        ValueShape::Nothing => Value::Nothing,
        ValueShape::Verdict => {
            let verdict = reader.nested(2)?.nested(2)?;
            Value::Goto(verdict.string(2).unwrap_or("").to_owned())
        }
        ValueShape::Bytes(_) => Value::Bytes(reader.nested(2)?.find(1)?.to_vec()),
    };
    Some((key, value))
}

fn read_chains(
    socket: &mut Socket,
    family: Family,
    table: &str,
) -> Result<BTreeMap<String, Chain>> {
    let mut chains = BTreeMap::new();
    let question = question("reading chains", GET_CHAIN, family.number());
    dump(
        socket,
        question,
        |_| {},
        |answer| {
            let Some(answer) = answer else {
                chains.clear();
                return Ok(());
            };
            let reader = Reader(answer.body);
            if reader.string(1) == Some(table)
                && let Some(name) = reader.string(3)
            {
                let hook = reader.nested(4).and_then(|hook| hook_in(reader, hook));
                let rules = Vec::new();
                chains.insert(name.to_owned(), Chain { hook, rules });
            }
            Ok(())
        },
    )?;
    Ok(chains)
}

fn hook_in(chain: Reader<'_>, hook: Reader<'_>) -> Option<Hook> {
    // A device alone, or a list of them.
    let device = hook
        .string(3)
        .or_else(|| hook.nested(4).and_then(|list| list.string(1)))
        .map(str::to_owned);
    Some(Hook {
        kind: chain.string(7)?.to_owned(),
        number: hook.number(1)?,
        priority: hook.number(2)?.cast_signed(),
        device,
    })
}

fn read_rules(
    socket: &mut Socket,
    family: Family,
    table: &str,
    chains: &mut BTreeMap<String, Chain>,
) -> Result<()> {
    let write = |a: &mut crate::attribute::Attributes<'_>| {
        a.string(1, table);
    };
    let question = question("reading rules", GET_RULE, family.number());
    dump(socket, question, write, |answer| {
        let Some(answer) = answer else {
            for chain in chains.values_mut() {
                chain.rules.clear();
            }
            return Ok(());
        };
        if let Some((chain, rule)) = rule_in(&answer, table)
            && let Some(chain) = chains.get_mut(chain)
        {
            chain.rules.push(rule);
        }
        Ok(())
    })
}

fn rule_in<'a>(answer: &Answer<'a>, table: &str) -> Option<(&'a str, Rule)> {
    let reader = Reader(answer.body);
    if reader.string(1) != Some(table) {
        return None;
    }
    let expressions = reader.nested(4).map_or(0, Iterator::count);
    let rule = Rule {
        fingerprint: reader.find(7).map_or(0, fingerprint_in),
        count: u32::try_from(expressions).unwrap_or(u32::MAX),
        expressions: Vec::new(),
    };
    Some((reader.string(2)?, rule))
}
