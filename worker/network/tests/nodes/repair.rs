//! What others change in the kernel is put right, and counted.

use std::collections::BTreeSet;
use std::time::Instant;

use swarm_network::Kind;

use crate::lab::{DEADLINE, Lab, Namespace, skip};

/// A small generator: the same damage in every run of a test.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % limit
    }
}

/// All that the kernel holds of ours, as the `ip` and `bridge` programs print it: a reading of its
/// own, to compare the crate's with.
fn picture(node: &Namespace) -> BTreeSet<String> {
    let links = node.ip("-o -d link show");
    let mut lines: BTreeSet<String> = links
        .lines()
        .filter(|line| line.contains("sw-"))
        .map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let name = words[1].trim_end_matches(':').split('@').next().unwrap();
            let after = |word: &str| {
                let at = words.iter().position(|one| *one == word);
                at.map_or("-", |at| words[at + 1]).to_owned()
            };
            let is_up = words[2].contains("UP");
            format!(
                "link {name} up={is_up} mtu={} master={} learning={} neigh_suppress={} id={}",
                after("mtu"),
                after("master"),
                after("learning"),
                after("neigh_suppress"),
                after("id")
            )
        })
        .collect();
    let tables = [
        ("fdb", node.run("bridge", "fdb show")),
        ("neighbour", node.ip("neighbour show nud permanent")),
        ("neighbour", node.ip("-6 neighbour show nud permanent")),
        ("address", node.ip("-o address show")),
    ];
    for (table, text) in tables {
        let ours = text.lines().filter(|line| line.contains("sw-"));
        // The kernel's own: addresses of ports, multicast groups, link-local addresses.
        let told = ours.filter(|line| {
            let own = ["33:33", "01:00:5e", "fe80", " permanent"];
            table != "fdb" || !own.iter().any(|word| line.contains(word)) || line.contains("dst")
        });
        let numberless = told.map(|line| match (table, line.split_once(':')) {
            ("address", Some((_, rest))) => rest.to_owned(),
            _ => line.to_owned(),
        });
        lines.extend(numberless.map(|line| format!("{table} {}", line.trim())));
    }
    lines
}

/// Breaks one thing.
fn damage(node: &Namespace, dice: &mut Dice) -> String {
    let fdb = node.run("bridge", "fdb show");
    let entries: Vec<&str> = fdb
        .lines()
        .filter(|line| line.starts_with("02:42"))
        .collect();
    let neighbours = node.ip("neighbour show nud permanent");
    let neighbours: Vec<&str> = neighbours
        .lines()
        .filter(|line| line.contains("sw-"))
        .collect();
    let links = node.ip("-o link show");
    let links: Vec<String> = links
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(|name| name.split('@').next().unwrap().to_owned())
        .filter(|name| name.starts_with("sw-"))
        .collect();
    let link = &links[dice.below(links.len())];
    let what = match dice.below(8) {
        0 if !entries.is_empty() => {
            let entry = entries[dice.below(entries.len())];
            let words: Vec<&str> = entry.split_ascii_whitespace().collect();
            let table = if entry.contains("dst") {
                "self"
            } else {
                "master"
            };
            format!("bridge fdb del {} dev {} {table}", words[0], words[2])
        }
        1 if !neighbours.is_empty() => {
            let neighbour = neighbours[dice.below(neighbours.len())];
            let words: Vec<&str> = neighbour.split_ascii_whitespace().collect();
            format!("ip neighbour del {} dev {}", words[0], words[2])
        }
        2 => format!("ip link set {link} down"),
        3 => format!("ip link del {link}"),
        4 => format!("ip link set {link} nomaster"),
        5 => format!("ip link set {link} mtu 1300"),
        6 => "ip link add sw-foreign type bridge".to_owned(),
        _ => format!("ip neighbour add 10.0.1.77 lladdr 02:42:00:00:00:77 dev {link}"),
    };
    let (program, args) = what.split_once(' ').unwrap();
    node.run(program, args);
    what
}

#[tokio::test]
async fn random_damage_is_repaired() {
    /// How often something is broken.
    const ROUNDS: usize = 25;
    if skip("random_damage_is_repaired") {
        return;
    }
    let mut lab = Lab::new(2, "4");
    let web = lab.add_overlay(&["10.0.1.0/24 fd00:1::/64", "10.0.2.0/24"], |_| {});
    lab.add_overlay(&["10.0.0.0/24"], |spec| spec.ingress = true);
    let (one, _) = lab.run(0, &[(web, "10.0.1.5/24 fd00:1::5/64")]).await;
    let (two, _) = lab.run(1, &[(web, "10.0.1.6/24 fd00:1::6/64")]).await;
    lab.run(1, &[(web, "10.0.2.6/24")]).await;
    for node in 0..2 {
        lab.settle(node).await;
    }
    let healthy = picture(&lab.nodes[0].namespace);
    assert!(
        healthy.iter().any(|line| line.contains("10.0.1.6")),
        "{healthy:#?}"
    );
    let mut dice = Dice(4);
    for round in 0..ROUNDS {
        let what = damage(&lab.nodes[0].namespace, &mut dice);
        let start = Instant::now();
        loop {
            // Nobody asks for it: the daemon notices by itself.
            let now = picture(&lab.nodes[0].namespace);
            if now == healthy {
                break;
            }
            let difference: Vec<_> = now.symmetric_difference(&healthy).collect();
            assert!(
                start.elapsed() < DEADLINE,
                "round {round}, {what}: {difference:#?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let counts = lab.network(0).counts();
    assert!(
        counts.repairs[&Kind::Link] > 0 && counts.repairs[&Kind::Forwarding] > 0,
        "{counts:?}"
    );
    assert_eq!(counts.refusals, 0);
    let (from, to) = (lab.container(one), lab.container(two));
    from.reaches(to, "10.0.1.6".parse().unwrap()).unwrap();
    to.reaches(from, "fd00:1::5".parse().unwrap()).unwrap();
}
