//! How subnets are chosen and addresses given.

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn subnet(text: &str, range: &str) -> LocalSubnet {
    let subnet = net(text);
    LocalSubnet {
        subnet,
        range: net(range),
        gateway: first_host(subnet),
    }
}

#[test]
fn pools_in_use_are_passed_over() {
    let mut subnets = LocalSubnets::default();
    let node = NodeId::from_number(1);
    let taken = [
        net("172.17.0.0/16"),
        net("172.18.4.0/24"),
        net("10.0.0.0/8"),
    ];
    assert!(subnets.choose(For::Outbound, node, &taken).unwrap());
    assert!(!subnets.choose(For::Outbound, node, &taken).unwrap());
    let [ipv4, ipv6] = subnets.outbound() else {
        panic!("{subnets:?}")
    };
    assert_eq!(
        (ipv4.subnet, ipv4.gateway),
        (net("172.19.0.0/16"), "172.19.0.1".parse().unwrap())
    );
    assert!(net("fd00::/8").contains(&ipv6.subnet) && ipv6.subnet.prefix_len() == 64);
    let everything = [net("0.0.0.0/0")];
    let error = LocalSubnets::default()
        .choose(For::Outbound, node, &everything)
        .unwrap_err();
    assert!(matches!(error, Error::NoSubnet), "{error}");
}

#[test]
fn addresses_are_given_in_turn() {
    let mut subnets = LocalSubnets::default();
    let pool = [subnet("10.5.0.0/29", "10.5.0.0/29")];
    let aux = BTreeSet::from(["10.5.0.3".parse().unwrap()]);
    let mut taken = BTreeSet::new();
    let mut give = |taken: &BTreeSet<IpAddr>| {
        subnets
            .give(&pool, false, &aux, taken)
            .map(|given| given[0].1.to_string())
    };
    for expected in ["10.5.0.2/29", "10.5.0.4/29", "10.5.0.5/29"] {
        let given = give(&taken).unwrap();
        assert_eq!(given, expected);
        taken.insert(given.parse::<IpNet>().unwrap().addr());
    }
    // One that has become free is not given again at once.
    taken.remove(&"10.5.0.2".parse().unwrap());
    assert_eq!(give(&taken).unwrap(), "10.5.0.6/29");
    taken.insert("10.5.0.6".parse().unwrap());
    assert_eq!(give(&taken).unwrap(), "10.5.0.2/29");
    taken.insert("10.5.0.2".parse().unwrap());
    assert!(matches!(give(&taken), Err(Error::Exhausted(_))));
}

#[test]
fn ranges_and_families() {
    let mut subnets = LocalSubnets::default();
    let pool = [
        subnet("10.5.0.0/24", "10.5.0.16/30"),
        subnet("fd05::/64", "fd05::/64"),
        subnet("10.6.0.0/24", "10.6.0.0/24"),
    ];
    let nobody = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let mut all = Vec::new();
    for _ in 0..5 {
        let given = subnets.give(&pool, true, &nobody, &taken).unwrap();
        taken.extend(given.iter().map(|(_, address)| address.addr()));
        all.extend(given.iter().map(|(_, address)| address.to_string()));
    }
    // When a subnet is used up, the next one of its family is taken.
    assert_eq!(all[..2], ["10.5.0.16/24", "fd05::2/64"]);
    assert_eq!(all[8..], ["10.6.0.2/24", "fd05::6/64"]);
    let only_ipv4 = subnets.give(&pool, false, &nobody, &taken).unwrap();
    assert_eq!(only_ipv4.len(), 1);
}
