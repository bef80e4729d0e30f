//! What fuzzing reaches of this crate's readers. Not for use.

use prost::Message as _;
use proto::raft as pb;

use crate::DataKey;
use crate::core::codec;
use crate::log::record::{Assembler, parse_entry_name};
use crate::log::seal::Sealer;

/// Reads hostile bytes as the log would: a sealed record, its name, and what stands in a record that
/// was opened. Must never panic.
pub fn read_record(data: &[u8]) {
    let sealer = Sealer::new(&DataKey::new([7; 32]), &[DataKey::new([8; 32])]);
    assert!(sealer.open(b"l/", data).is_err(), "nobody has sealed this");
    let _name = parse_entry_name(data);
    // Whoever has the key can write anything: what was opened is not believed either.
    if let Ok(entry) = pb::Entry::decode(data) {
        drop(codec::entry_from(entry));
    }
    if let Ok(header) = pb::SnapshotHeader::decode(data) {
        drop(codec::meta_from(&header));
    }
    let mut assembler = Assembler::default();
    let mut rest = data;
    while let [index, part, len, tail @ ..] = rest {
        let (plain, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        let added = assembler.add((*index).into(), (*part).into(), plain.to_vec());
        if added.is_err() {
            break;
        }
        rest = tail;
    }
    let sealed = sealer.seal(b"l/", data).expect("it is short enough");
    let opened = sealer.open(b"l/", &sealed).ok();
    assert_eq!(opened.as_deref(), Some(data));
}
