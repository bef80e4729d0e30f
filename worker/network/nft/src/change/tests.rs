//! Steps in order, and what the kernel makes of a transaction it has to refuse.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use super::*;
use crate::dump;
use crate::error::Error;
use crate::expression::{Expressions, Verdict};
use crate::socket::Socket;
use crate::table::{Format, print_as};

const TABLE: &str = "swarm-test";

fn ruleset(numbers: &[u16]) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let table = ruleset.table(Family::V4, TABLE);
    let key = Format {
        print_as: print_as::PORT,
        length: 2,
    };
    let value = ValueShape::Nothing;
    let elements = numbers
        .iter()
        .map(|number| (number.to_be_bytes().to_vec(), Value::Nothing))
        .collect();
    table.map("ports", Shape { key, value }, elements);
    let rule = Expressions::default().verdict(Verdict::Accept);
    let hook = Hook::new("filter", Hook::OUTPUT, 0);
    table.chain("output", Some(hook), vec![rule]);
    ruleset
}

#[test]
fn fingerprints_survive_their_comment() {
    for fingerprint in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
        let comment = fingerprint_comment(fingerprint);
        assert_eq!(fingerprint_in(&comment), fingerprint);
    }
    assert_eq!(fingerprint_in(b"\0\x05hand"), 0);
}

#[test]
fn only_what_differs_is_changed() {
    assert_eq!(difference(&ruleset(&[1, 2]), &ruleset(&[1, 2])), []);
    let table = (Family::V4, TABLE.to_owned());
    let map = || "ports".to_owned();
    let change = |what| Change {
        table: table.clone(),
        what,
    };
    assert_eq!(
        difference(&ruleset(&[1, 2]), &ruleset(&[2, 3])),
        [
            change(What::RemoveElements(map(), vec![vec![0, 1]])),
            change(What::AddElements(map(), vec![(vec![0, 3], Value::Nothing)])),
        ]
    );
    // A hook cannot be changed: the table is made anew.
    let mut moved = ruleset(&[]);
    let chain = moved.table(Family::V4, TABLE).chains.get_mut("output");
    chain
        .and_then(|chain| chain.hook.as_mut())
        .expect("a hook")
        .priority = 7;
    let changes = difference(&ruleset(&[]), &moved);
    assert_eq!(changes[0].what, What::DropTable);
    assert_eq!(changes[1].what, What::AddTable);
}

/// A namespace by `ip`; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Option<Self> {
        let name = format!("nft{}-change", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if made.is_ok_and(|output| output.status.success()) {
            return Some(Self(name));
        }
        println!("skipped: ip cannot make a network namespace here");
        None
    }

    fn socket(&self) -> Socket {
        let file = File::open(format!("/run/netns/{}", self.0)).expect("made before");
        Socket::open_in(file.as_fd()).expect("root")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

#[test]
fn a_refused_step_undoes_all_and_is_named() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let mut socket = namespace.socket();
    let before = ruleset(&[1, 2]);
    let changes = difference(&Ruleset::default(), &before);
    encode(&changes)
        .commit(&mut socket)
        .expect("a good transaction");
    assert_eq!(dump::read(&mut socket, &[TABLE]).expect("readable"), before);

    // It removes everything, makes much of it anew, and then adds to a map that is not there.
    let mut changes = difference(&before, &Ruleset::default());
    changes.extend(difference(&Ruleset::default(), &ruleset(&[3, 4, 5])));
    let elements = vec![(vec![0, 9], Value::Nothing), (vec![0, 8], Value::Nothing)];
    changes.push(Change {
        table: (Family::V4, TABLE.to_owned()),
        what: What::AddElements("missing".to_owned(), elements),
    });
    changes.extend(difference(&before, &ruleset(&[1, 2, 6])));
    let error = encode(&changes)
        .commit(&mut socket)
        .expect_err("no such map");
    let Error::Rejected { step, source, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(step, "adding 2 elements of map swarm-test/missing");
    assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(dump::read(&mut socket, &[TABLE]).expect("readable"), before);

    // The socket is as good as before.
    let changes = difference(&before, &ruleset(&[7]));
    encode(&changes)
        .commit(&mut socket)
        .expect("a good transaction");
    let found = dump::read(&mut socket, &[TABLE]).expect("readable");
    assert_eq!(found, ruleset(&[7]));
}
