//! What names lead to, and that changing one set touches no other.

use super::*;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn task(names: &[&str], last: u8, node: u128) -> TaskRecord {
    TaskRecord {
        names: names.iter().map(ToString::to_string).collect(),
        addresses: vec![ip(last)],
        node: Some(NodeId::from_number(node)),
        is_serving: true,
    }
}

fn set(owner: &str, names: &[&str], virtual_ips: &[u8], tasks: Vec<TaskRecord>) -> RecordSet {
    RecordSet {
        owner: owner.to_owned(),
        version: 1,
        names: names.iter().map(ToString::to_string).collect(),
        virtual_ips: virtual_ips.iter().copied().map(ip).collect(),
        tasks,
    }
}

fn front() -> NetworkId {
    NetworkId::from_number(1)
}

fn back() -> NetworkId {
    NetworkId::from_number(2)
}

fn zone() -> Zone {
    let mut zone = Zone::default();
    let web = vec![
        task(&["web.1.abc", "c1"], 11, 1),
        task(&["web.2.def"], 12, 2),
    ];
    let db = vec![task(&["db.1.ghi"], 21, 1), task(&["db.2.jkl"], 22, 2)];
    zone.set(NetworkRecords {
        network: front(),
        name: String::from("Front.Net"),
        sets: vec![
            set("s1", &["Web", "www"], &[1], web),
            set("s2", &["db"], &[], db),
            set("c9", &[], &[], vec![task(&["lone"], 31, 1)]),
        ],
    });
    zone.set(NetworkRecords {
        network: back(),
        name: String::from("back"),
        sets: vec![set(
            "s1",
            &["web"],
            &[101],
            vec![task(&["web.1.abc"], 111, 1)],
        )],
    });
    zone
}

fn found(zone: &Zone, networks: &[NetworkId], name: &str) -> Option<Vec<u8>> {
    let last = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => 0,
    };
    let found = zone.find(networks, name)?;
    Some(found.addresses.iter().map(last).collect())
}

#[test]
fn names_lead_where_swarms_do() {
    let zone = zone();
    let both = [front(), back()];
    for (name, networks, wanted) in [
        ("web", &both[..], Some(vec![1])),
        ("www", &both, Some(vec![1])),
        ("web", &[back(), front()], Some(vec![101])),
        ("web", &[back()], Some(vec![101])),
        ("www", &[back()], None),
        ("web.back", &both, Some(vec![101])),
        ("web.front.net", &both, Some(vec![1])),
        ("web.front.net", &[back()], None),
        ("tasks.web", &both, Some(vec![11, 12])),
        ("tasks.www", &both, Some(vec![11, 12])),
        ("tasks.web.back", &both, Some(vec![111])),
        ("db", &both, Some(vec![21, 22])),
        ("tasks.db", &both, Some(vec![21, 22])),
        ("web.1.abc", &both, Some(vec![11])),
        ("web.1.abc.back", &both, Some(vec![111])),
        ("c1", &both, Some(vec![11])),
        ("lone", &both, Some(vec![31])),
        ("tasks.lone", &both, None),
        ("tasks.c1", &both, None),
        ("tasks.", &both, None),
        (".front.net", &both, None),
        ("front.net", &both, None),
        ("other", &both, None),
        ("web", &[], None),
        ("web", &[NetworkId::from_number(3)], None),
    ] {
        assert_eq!(
            found(&zone, networks, name),
            wanted,
            "{name} on {networks:?}"
        );
    }
}

#[test]
fn addresses_lead_back_to_names() {
    let zone = zone();
    let names = |networks: &[NetworkId], last| zone.find_address(networks, ip(last));
    let both = [front(), back()];
    assert_eq!(names(&both, 1).unwrap(), ["Web.front.net"]);
    assert_eq!(names(&both, 11).unwrap(), ["web.1.abc.front.net"]);
    assert_eq!(names(&both, 101).unwrap(), ["web.back"]);
    assert_eq!(names(&[front()], 101), None);
}

#[test]
fn a_set_changes_alone_and_never_back() {
    let mut zone = zone();
    let change = |zone: &mut Zone, set| {
        zone.set(NetworkRecords {
            network: front(),
            name: String::from("front.net"),
            sets: vec![set],
        });
    };
    let mut db = set("s2", &["db2"], &[2], Vec::new());
    db.version = 5;
    change(&mut zone, db.clone());
    assert_eq!(found(&zone, &[front()], "db2"), Some(vec![2]));
    assert_eq!(found(&zone, &[front()], "db"), None);
    assert_eq!(found(&zone, &[front()], "db.1.ghi"), None);
    assert_eq!(zone.find_address(&[front()], ip(21)), None);
    assert_eq!(found(&zone, &[front()], "web"), Some(vec![1]));
    change(&mut zone, set("s2", &["old"], &[3], Vec::new()));
    assert_eq!(found(&zone, &[front()], "old"), None);
    zone.remove_owners(front(), &[String::from("s2"), String::from("nobody")]);
    assert_eq!(found(&zone, &[front()], "db2"), None);
    zone.retain_owners(front(), &HashSet::from([String::from("c9")]));
    assert_eq!(found(&zone, &[front()], "web"), None);
    assert_eq!(found(&zone, &[front()], "lone"), Some(vec![31]));
    zone.remove_owners(front(), &[String::from("c9")]);
    let network = &zone.networks[&front()];
    assert!(network.by_name.is_empty() && network.by_address.is_empty());
}

#[test]
fn two_services_may_share_an_alias() {
    let mut zone = zone();
    let mut api = set("s3", &["api", "www"], &[3], Vec::new());
    api.version = 2;
    zone.set(NetworkRecords {
        network: front(),
        name: String::from("front.net"),
        sets: vec![api],
    });
    assert_eq!(found(&zone, &[front()], "www"), Some(vec![1, 3]));
    zone.remove_owners(front(), &[String::from("s1")]);
    assert_eq!(found(&zone, &[front()], "www"), Some(vec![3]));
}

#[test]
fn withdrawn_tasks_keep_only_their_own_names() {
    let mut zone = zone();
    let mut tasks = vec![task(&["db.1"], 21, 1), task(&["db.2"], 22, 2)];
    tasks[0].is_serving = false;
    let mut db = set("s2", &["db"], &[], tasks.clone());
    db.version = 2;
    let records = |set| NetworkRecords {
        network: front(),
        name: String::from("front.net"),
        sets: vec![set],
    };
    zone.set(records(db.clone()));
    assert_eq!(found(&zone, &[front()], "db"), Some(vec![22]));
    assert_eq!(found(&zone, &[front()], "tasks.db"), Some(vec![22]));
    assert_eq!(found(&zone, &[front()], "db.1"), Some(vec![21]));
    db.version = 3;
    db.tasks[1].is_serving = false;
    zone.set(records(db));
    // The name exists still: it is not asked for elsewhere.
    assert_eq!(found(&zone, &[front()], "db"), Some(vec![]));
}

#[test]
fn tasks_on_dead_nodes_are_left_out_unless_all_are() {
    let mut zone = zone();
    zone.set_down(HashSet::from([NodeId::from_number(2)]));
    assert_eq!(found(&zone, &[front()], "db"), Some(vec![21]));
    assert_eq!(found(&zone, &[front()], "db.2.jkl"), Some(vec![22]));
    zone.set_down([1, 2].map(NodeId::from_number).into());
    assert_eq!(found(&zone, &[front()], "db"), Some(vec![21, 22]));
    zone.set_down(HashSet::new());
    assert_eq!(found(&zone, &[front()], "tasks.web"), Some(vec![11, 12]));
}
