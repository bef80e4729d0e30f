//! What managers read from the log, from snapshots and from each other.

use store::codec;

pub(crate) fn transaction(data: &[u8]) {
    if let Ok(transaction) = codec::decode_transaction(data) {
        let written = codec::encode_transaction(&transaction);
        let again = codec::decode_transaction(&written).expect("what was written is read");
        assert_eq!(again.actions.len(), transaction.actions.len());
    }
    drop(codec::decode_outcome(data));
}

pub(crate) fn snapshot(data: &[u8]) {
    drop(codec::decode_snapshot(data));
}

pub(crate) fn sealed_record(data: &[u8]) {
    raft::fuzz::read_record(data);
}
