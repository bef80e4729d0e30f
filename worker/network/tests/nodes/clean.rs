//! Nothing is left behind, whenever a daemon ends.

use crate::lab::{Lab, Namespace, eventually, skip};

fn ours(node: &Namespace) -> Vec<String> {
    let links = node.ip("-o link show");
    let names = links.lines().filter_map(|line| line.split(": ").nth(1));
    names
        .filter(|name| name.starts_with("sw-"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn released_tasks_leave_nothing() {
    if skip("released_tasks_leave_nothing") {
        return;
    }
    let mut lab = Lab::new(1, "4");
    let web = lab.add_overlay(&["10.0.1.0/24"], |_| {});
    let (one, sandbox) = lab.run(0, &[(web, "10.0.1.5/24")]).await;
    let (two, _) = lab.run(0, &[(web, "10.0.1.6/24")]).await;
    assert_eq!(sandbox.interfaces.len(), 2);
    let task = lab.containers[one].0;
    lab.network(0).release(task).await.unwrap();
    let inside = lab.container(one).ip("-o link show");
    assert!(
        !inside.contains("eth0") && !inside.contains("eth1"),
        "{inside}"
    );
    assert_eq!(
        ours(&lab.nodes[0].namespace).len(),
        4,
        "two bridges, two ports"
    );
    // The other one ends by itself.
    lab.containers.remove(two);
    eventually("removal of all links", || {
        ours(&lab.nodes[0].namespace).is_empty().then_some(())
    });
    assert!(
        lab.network(0)
            .counts()
            .repairs
            .values()
            .all(|count| *count == 0)
    );
}

#[tokio::test]
async fn containers_keep_their_network_while_the_daemon_is_away() {
    if skip("containers_keep_their_network_while_the_daemon_is_away") {
        return;
    }
    let mut lab = Lab::new(2, "4");
    let web = lab.add_overlay(&["10.0.1.0/24"], |_| {});
    let (one, before) = lab.run(0, &[(web, "10.0.1.5/24")]).await;
    let (two, _) = lab.run(1, &[(web, "10.0.1.6/24")]).await;
    let (gone, _) = lab.run(0, &[(web, "10.0.1.7/24")]).await;
    for node in 0..2 {
        lab.settle(node).await;
    }
    lab.stop(0);
    let reach = |lab: &Lab| {
        lab.container(one)
            .reaches(lab.container(two), "10.0.1.6".parse().unwrap())
            .unwrap();
        lab.container(two)
            .reaches(lab.container(one), "10.0.1.5".parse().unwrap())
            .unwrap();
    };
    reach(&lab);
    // Meanwhile a container ends, and somebody leaves a link behind.
    let node = &lab.nodes[0].namespace;
    node.ip("link add sw-o0000000000 type bridge");
    lab.containers.remove(gone);
    lab.tasks.remove(2);
    lab.start(0);
    lab.tell();
    lab.settle(0).await;
    reach(&lab);
    let node = &lab.nodes[0].namespace;
    assert!(!ours(node).iter().any(|name| name == "sw-o0000000000"));
    assert!(!node.ip("neighbour show nud permanent").contains("10.0.1.7"));
    // What is asked again is answered as before.
    let task = lab.containers[one].0;
    let again = lab.network(0).reserve(task, vec![], vec![]).await.unwrap();
    assert_eq!(again, before);
    lab.network(0)
        .attach(task, lab.container(one).pid())
        .await
        .unwrap();
}

/// Ends the daemon between any two of the steps of a container's start.
#[tokio::test]
async fn a_daemon_that_dies_on_the_way_leaves_nothing() {
    if skip("a_daemon_that_dies_on_the_way_leaves_nothing") {
        return;
    }
    let mut lab = Lab::new(1, "4");
    let web = lab.add_overlay(&["10.0.1.0/24"], |_| {});
    lab.tell();
    let attachment = types::network::NetworkAttachment {
        network: web,
        addresses: vec!["10.0.1.5/24".parse().unwrap()],
        aliases: vec![],
    };
    for step in 0..3 {
        let task = types::TaskId::from_number(100 + step);
        let container = Namespace::new();
        let reserved = lab
            .network(0)
            .reserve(task, vec![attachment.clone()], vec![])
            .await
            .unwrap();
        if step == 1 {
            // Its links are made, but it was not told so.
            lab.network(0).attach(task, container.pid()).await.unwrap();
            container.ip("link set eth0 down");
            container.ip("address flush dev eth0");
        }
        lab.stop(0);
        if step == 2 {
            drop(container);
            lab.start(0);
            lab.tell();
        } else {
            lab.start(0);
            lab.tell();
            // The executor finds the container and goes on.
            let again = lab
                .network(0)
                .reserve(task, vec![attachment.clone()], vec![])
                .await
                .unwrap();
            assert_eq!(again, reserved);
            lab.network(0).attach(task, container.pid()).await.unwrap();
            let inside = container.ip("-o -4 address show");
            assert!(inside.contains("10.0.1.5/24"), "step {step}: {inside}");
            assert!(container.ip("route").contains("default via"), "step {step}");
        }
        lab.network(0)
            .retain(std::collections::BTreeSet::new())
            .await
            .unwrap();
        assert_eq!(
            ours(&lab.nodes[0].namespace),
            Vec::<String>::new(),
            "step {step}"
        );
    }
}
