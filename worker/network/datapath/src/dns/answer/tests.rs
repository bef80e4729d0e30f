//! What packets are answered, good and bad.

use super::*;
use datapath_client::{Forwarding, NetworkRecords, RecordSet, TaskRecord};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use types::NetworkId;

fn task(name: &str, addresses: Vec<IpAddr>) -> TaskRecord {
    TaskRecord {
        names: vec![name.to_owned()],
        addresses,
        node: None,
        is_serving: true,
    }
}

fn zone() -> Zone {
    zone_with(2)
}

/// A zone in which one service has that many tasks.
fn zone_with(count: u16) -> Zone {
    let set = |owner: &str, name: &str, virtual_ips: Vec<IpAddr>, tasks| RecordSet {
        owner: owner.to_owned(),
        version: 1,
        names: vec![name.to_owned()],
        virtual_ips,
        tasks,
    };
    let many = |count: u16| {
        let address = |i: u16| IpAddr::from([10, 1, (i >> 8) as u8, i as u8]);
        let task = |i| task(&format!("many.{i}"), vec![address(i)]);
        (0..count).map(task).collect()
    };
    let mut zone = Zone::default();
    zone.set(NetworkRecords {
        network: NetworkId::from_number(1),
        name: String::from("front"),
        sets: vec![
            set("1", "web", vec![[10, 0, 0, 1].into()], many(2)),
            set(
                "2",
                "dual",
                vec![[10, 0, 0, 2].into(), "fd00::2".parse().unwrap()],
                vec![],
            ),
            set("3", "many", vec![], many(count)),
            set("4", "none", vec![], vec![]),
        ],
    });
    zone
}

fn view() -> SandboxView {
    SandboxView {
        networks: vec![NetworkId::from_number(1)],
        ..SandboxView::default()
    }
}

fn query(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name::name(name).unwrap(), record_type));
    message
}

fn ask_in(view: &SandboxView, query: &Message, transport: Transport) -> Outcome {
    let mut random = StdRng::seed_from_u64(1);
    let packet = query.to_vec().unwrap();
    answer(&packet, transport, view, &zone(), &mut random)
}

fn reply(outcome: Outcome) -> Message {
    match outcome {
        Outcome::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        Outcome::Forward | Outcome::Ignore => panic!("{outcome:?}"),
    }
}

fn ask(name: &str, record_type: RecordType) -> Message {
    reply(ask_in(&view(), &query(name, record_type), Transport::Udp))
}

fn data(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

#[test]
fn known_names_are_answered() {
    let reply = ask("WEB", RecordType::A);
    assert_eq!(reply.metadata.id, 4711);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
    assert!(reply.metadata.authoritative && !reply.metadata.truncation);
    assert_eq!(data(&reply), ["10.0.0.1"]);
    assert_eq!(reply.answers[0].ttl, VIRTUAL_TTL);
    // As it was asked, for clients that check.
    assert_eq!(reply.answers[0].name.to_string(), "WEB.");
    assert_eq!(ask("tasks.web", RecordType::A).answers[0].ttl, TASK_TTL);
    assert_eq!(data(&ask("dual", RecordType::AAAA)), ["fd00::2"]);
    assert_eq!(ask("dual.front", RecordType::ANY).answers.len(), 2);
    let pointer = ask("1.0.0.10.in-addr.arpa", RecordType::PTR);
    assert_eq!(data(&pointer), ["web.front."]);
}

#[test]
fn known_names_without_such_records_exist() {
    for (name, record_type) in [
        ("web", RecordType::AAAA),
        ("web", RecordType::MX),
        ("none", RecordType::A),
        ("1.0.0.10.in-addr.arpa", RecordType::A),
    ] {
        let reply = ask(name, record_type);
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::NoError,
            "{name}"
        );
        assert_eq!(data(&reply), [""; 0], "{name}");
    }
}

#[test]
fn other_names_are_asked_elsewhere() {
    for name in ["example.org", "webx", "web.back", "9.9.9.10.in-addr.arpa"] {
        let query = query(name, RecordType::A);
        assert_eq!(
            ask_in(&view(), &query, Transport::Udp),
            Outcome::Forward,
            "{name}"
        );
    }
    let stranger = SandboxView::default();
    let web = query("web", RecordType::A);
    assert_eq!(ask_in(&stranger, &web, Transport::Udp), Outcome::Forward);
}

#[test]
fn single_labels_are_kept_when_the_user_searches() {
    let searching = SandboxView {
        forwarding: Forwarding {
            keeps_single_labels: true,
            ..Forwarding::default()
        },
        ..view()
    };
    let asked = |name| ask_in(&searching, &query(name, RecordType::A), Transport::Udp);
    assert_eq!(
        reply(asked("other")).metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(asked("other.example"), Outcome::Forward);
    assert_eq!(data(&reply(asked("web"))), ["10.0.0.1"]);
}

#[test]
fn long_answers_are_cut_to_what_the_client_takes() {
    let mut query = query("many", RecordType::A);
    let zone = zone_with(1000);
    let bytes = |query: &Message, transport| {
        let packet = query.to_vec().unwrap();
        let mut random = StdRng::seed_from_u64(1);
        match answer(&packet, transport, &view(), &zone, &mut random) {
            Outcome::Reply(bytes) => (bytes.len(), Message::from_vec(&bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let (length, reply) = bytes(&query, Transport::Udp);
    assert!(length <= 512 && reply.metadata.truncation && reply.answers.len() > 25);
    query.set_edns({
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns
    });
    let (length, reply) = bytes(&query, Transport::Udp);
    assert!((1000..=1232).contains(&length), "{length}");
    assert!(reply.metadata.truncation && reply.edns.is_some());
    let (_, reply) = bytes(&query, Transport::Tcp);
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 1000);
}

#[test]
fn all_tasks_have_their_turn_at_being_first() {
    let mut random = StdRng::seed_from_u64(3);
    let packet = query("tasks.web", RecordType::A).to_vec().unwrap();
    let mut first = std::collections::HashMap::new();
    for _ in 0..1000 {
        let outcome = answer(&packet, Transport::Udp, &view(), &zone(), &mut random);
        *first.entry(data(&reply(outcome))[0].clone()).or_insert(0) += 1;
    }
    assert!(first.len() == 2 && first.values().all(|count| (400..600).contains(count)));
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let with = |change: &dyn Fn(&mut Message)| {
        let mut query = query("web", RecordType::A);
        change(&mut query);
        ask_in(&view(), &query, Transport::Udp)
    };
    let response = with(&|query| query.metadata.message_type = MessageType::Response);
    assert_eq!(response, Outcome::Ignore);
    let update = with(&|query| query.metadata.op_code = OpCode::Update);
    assert_eq!(reply(update).metadata.response_code, ResponseCode::NotImp);
    let two = with(&|query| {
        let again = query.queries[0].clone();
        query.add_query(again);
    });
    assert_eq!(reply(two).metadata.response_code, ResponseCode::FormErr);
    let none = with(&|query| query.queries.clear());
    assert_eq!(reply(none).metadata.response_code, ResponseCode::FormErr);
    let version = with(&|query| {
        let mut edns = Edns::new();
        edns.set_version(1);
        query.set_edns(edns);
    });
    let code = u16::from(reply(version).metadata.response_code);
    assert_eq!(code, u16::from(ResponseCode::BADVERS));
    let packet = query("web", RecordType::A).to_vec().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let cut = answer(&packet[..20], Transport::Udp, &view(), &zone(), &mut random);
    let Outcome::Reply(cut) = cut else { panic!() };
    assert_eq!((&cut[..2], cut[3] & 0xf), (&packet[..2], 1));
    let short = answer(&packet[..5], Transport::Udp, &view(), &zone(), &mut random);
    assert_eq!(short, Outcome::Ignore);
}

#[test]
fn a_failure_names_the_question() {
    let packet = query("example.org", RecordType::A).to_vec().unwrap();
    let reply = reply(failure(&packet));
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(reply.queries[0].name().to_string(), "example.org.");
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut random = StdRng::seed_from_u64(1);
        let outcome = answer(&packet, Transport::Udp, &view(), &zone(), &mut random);
        if outcome == Outcome::Forward {
            drop(failure(&packet));
        }
    }

    #[test]
    fn damaged_questions_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut query = query("tasks.web.front", RecordType::A);
        query.set_edns(Edns::new());
        let mut packet = query.to_vec().unwrap();
        for (at, byte) in changes {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        packet.truncate(cut.index(packet.len() + 1));
        let mut random = StdRng::seed_from_u64(1);
        match answer(&packet, Transport::Udp, &view(), &zone(), &mut random) {
            Outcome::Reply(reply) => {
                prop_assert!(reply.len() <= UDP_BYTES_MAX);
                prop_assert_eq!(&reply[..2], &packet[..2]);
            }
            Outcome::Forward => drop(failure(&packet)),
            Outcome::Ignore => {}
        }
    }
}
