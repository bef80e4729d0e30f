//! The names of records, and how an entry too large for one value is cut into several.
//!
//! `l/` + index + part holds an entry; the first part starts with the number of parts. Names sort as
//! the log does. `m/…` hold single values.

use std::io;

use super::Op;
use super::seal::Sealer;

/// Who the log belongs to; also proves at open that the key is right.
pub(crate) const IDENTITY: &[u8] = b"m/id";
/// The last vote.
pub(crate) const VOTE: &[u8] = b"m/vote";
/// Everything up to this entry has been dropped.
pub(crate) const PURGED: &[u8] = b"m/purged";
/// The last entry known to be committed.
pub(crate) const COMMITTED: &[u8] = b"m/committed";
/// What names of entries start with.
pub(crate) const ENTRIES: &[u8] = b"l/";

const NAME_BYTES: usize = 12;
const PARTS_BYTES: usize = 2;

/// The name of part `part` of entry `index`.
pub(crate) fn entry_name(index: u64, part: u16) -> Vec<u8> {
    let mut name = Vec::with_capacity(NAME_BYTES);
    name.extend_from_slice(ENTRIES);
    name.extend_from_slice(&index.to_be_bytes());
    name.extend_from_slice(&part.to_be_bytes());
    name
}

/// Index and part out of a name made by [`entry_name`].
pub(crate) fn parse_entry_name(name: &[u8]) -> Option<(u64, u16)> {
    let rest = name.strip_prefix(ENTRIES)?;
    let (index, part) = rest.split_first_chunk::<8>()?;
    Some((
        u64::from_be_bytes(*index),
        u16::from_be_bytes(part.try_into().ok()?),
    ))
}

/// Seals entry `index` into `ops` and returns in how many parts.
pub(crate) fn put_entry(
    sealer: &Sealer,
    index: u64,
    encoded: &[u8],
    value_bytes_max: usize,
    ops: &mut Vec<Op>,
) -> io::Result<u16> {
    let parts = encoded.len().div_ceil(value_bytes_max).max(1);
    let parts = u16::try_from(parts).map_err(|_| io::Error::other("entry has too many parts"))?;

    let (first, mut rest) = encoded.split_at(encoded.len().min(value_bytes_max));
    let mut head = Vec::with_capacity(PARTS_BYTES + first.len());
    head.extend_from_slice(&parts.to_be_bytes());
    head.extend_from_slice(first);
    let name = entry_name(index, 0);
    ops.push(Op::Put(name.clone(), sealer.seal(&name, &head)?));

    for part in 1..parts {
        let (chunk, after) = rest.split_at(rest.len().min(value_bytes_max));
        rest = after;
        let name = entry_name(index, part);
        ops.push(Op::Put(name.clone(), sealer.seal(&name, chunk)?));
    }
    Ok(parts)
}

/// Puts entries together again from their parts, which arrive in the order of their names.
#[derive(Default)]
pub(crate) struct Assembler {
    current: Option<(u64, u16, u16, Vec<u8>)>,
}

impl Assembler {
    /// Takes the opened part `part` of `index`; gives the entry back with the last of its parts, and
    /// how many they were.
    pub(crate) fn add(
        &mut self,
        index: u64,
        part: u16,
        plain: Vec<u8>,
    ) -> Result<Option<(Vec<u8>, u16)>, &'static str> {
        let (parts, have, bytes) = match self.current.take() {
            None if part == 0 => {
                let (parts, chunk) = plain
                    .split_first_chunk::<PARTS_BYTES>()
                    .ok_or("the record is too short")?;
                (u16::from_be_bytes(*parts), 1, chunk.to_vec())
            }
            Some((current, parts, have, mut bytes)) if current == index && have == part => {
                bytes.extend_from_slice(&plain);
                (parts, have + 1, bytes)
            }
            None | Some(_) => return Err("a part of the entry is missing"),
        };
        if have == parts {
            return Ok(Some((bytes, parts)));
        }
        self.current = Some((index, parts, have, bytes));
        Ok(None)
    }

    /// The entry whose last parts never came.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        self.current.as_ref().map(|(index, ..)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::seal::DataKey;

    #[test]
    fn entries_of_every_size_come_back() {
        let sealer = Sealer::new(&DataKey::new([1; 32]), &[]);
        for size in [0_usize, 1, 7, 8, 9, 16, 1000] {
            let entry: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut ops = Vec::new();
            let parts = put_entry(&sealer, 5, &entry, 8, &mut ops).unwrap();
            assert_eq!(ops.len(), usize::from(parts));

            let mut assembler = Assembler::default();
            let mut got = None;
            for op in &ops {
                let Op::Put(name, sealed) = op else {
                    panic!("only puts")
                };
                let (index, part) = parse_entry_name(name).unwrap();
                assert!(
                    got.is_none(),
                    "an entry was given back before its last part"
                );
                got = assembler
                    .add(index, part, sealer.open(name, sealed).unwrap())
                    .unwrap();
            }
            assert_eq!(got.unwrap(), (entry, parts));
            assert_eq!(assembler.unfinished(), None);
        }
    }

    #[test]
    fn a_missing_part_is_noticed() {
        let mut assembler = Assembler::default();
        assert!(
            assembler.add(5, 1, vec![1]).is_err(),
            "the first part is missing"
        );
        assert!(assembler.add(5, 0, vec![0, 3, 9]).unwrap().is_none());
        assert_eq!(assembler.unfinished(), Some(5));
        assert!(
            assembler.add(5, 2, vec![9]).is_err(),
            "the second part is missing"
        );
        assert!(
            assembler.add(6, 0, vec![0]).is_err(),
            "no room for the number of parts"
        );
    }

    #[test]
    fn names_sort_like_the_log() {
        let mut names: Vec<_> = [(256, 0), (1, 1), (1, 0), (u64::MAX, 0)]
            .map(|(i, p)| entry_name(i, p))
            .into();
        names.sort();
        let parsed: Vec<_> = names.iter().filter_map(|n| parse_entry_name(n)).collect();
        assert_eq!(parsed, [(1, 0), (1, 1), (256, 0), (u64::MAX, 0)]);
    }
}
