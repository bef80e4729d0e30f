//! A swarm in one process: joining, running services, failing, changing roles, coming back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anyhow::ensure;
use control::{RemoveNodeRequest, RotateJoinTokenRequest, ServiceLogsRequest};
use proto::{control, logs, objects};
use swarm_tests::cluster::{Cluster, eventually, state};
use swarmd::{Daemon, Error, Init, Standing};
use types::NodeRole;
use types::node::{Availability, NodeState};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_runs_on_all_nodes_whichever_manager_is_asked() {
    let cluster = Cluster::new().managers(3).workers(2).start().await.unwrap();
    let machines = &cluster.machines;
    machines[1].create_service("web", 5).await.unwrap();
    let tasks = cluster.running("web", 5).await.unwrap();
    let mut nodes: Vec<_> = tasks.iter().filter_map(|task| task.node_id).collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 5, "spread evenly");
    machines[2].scale("web", 10).await.unwrap();
    cluster.running("web", 10).await.unwrap();
    for machine in machines {
        assert_eq!(machine.executor.running().len(), 2, "{}", machine.name);
    }

    // Another takes the place of a task that ends.
    let victim = *machines[4].executor.running().keys().next().unwrap();
    machines[4].executor.end(victim, 1);
    eventually("the replacement", async || {
        let tasks = cluster.running("web", 10).await?;
        ensure!(
            tasks.iter().all(|task| task.id != victim),
            "it is still counted on"
        );
        Ok(())
    })
    .await
    .unwrap();

    // Output is read through any manager, also those that do not lead.
    for machine in &machines[..3] {
        let request = ServiceLogsRequest {
            keys: vec!["web".to_owned()],
            options: Some(logs::LogOptions::default()),
        };
        let answer = machine.control().await.unwrap().service_logs(request).await;
        let mut batches = answer.unwrap().into_inner();
        let mut lines = 0;
        while let Some(batch) = batches.message().await.unwrap() {
            assert_eq!(
                batch.incomplete,
                Vec::<String>::new(),
                "through {}",
                machine.name
            );
            lines += batch.lines.len();
        }
        assert!(lines >= 10, "{lines} lines through {}", machine.name);
    }

    let refused = machines[3].self_view().await.unwrap_err().to_string();
    assert!(refused.contains("not a swarm manager"), "{refused}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_gives_its_tasks_away_and_a_paused_one_keeps_them() {
    let cluster = Cluster::new().managers(1).workers(2).start().await.unwrap();
    let [manager, first, second] = &cluster.machines[..] else {
        panic!("three machines")
    };
    manager.create_service("web", 6).await.unwrap();
    cluster.running("web", 6).await.unwrap();
    manager
        .set_availability(first.node_id().unwrap(), Availability::Pause)
        .await
        .unwrap();
    manager
        .set_availability(second.node_id().unwrap(), Availability::Drain)
        .await
        .unwrap();
    eventually("the drained node to be empty", async || {
        ensure!(
            second.executor.running().is_empty(),
            "{} run",
            second.executor.running().len()
        );
        Ok(())
    })
    .await
    .unwrap();
    cluster.running("web", 6).await.unwrap();
    assert_eq!(
        first.executor.running().len(),
        2,
        "a paused node keeps what it has, no more"
    );
    assert_eq!(manager.executor.running().len(), 4);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_stops_and_writes_go_on() {
    let mut cluster = Cluster::new().managers(3).workers(1).start().await.unwrap();
    cluster.machines[0]
        .create_service("before", 4)
        .await
        .unwrap();
    cluster.running("before", 4).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let containers = cluster.machines[leader].executor.running();
    cluster.machines[leader].power_off().await;
    let other = cluster.leader().await.unwrap();
    assert_ne!(leader, other);
    cluster.machines[other]
        .create_service("after", 2)
        .await
        .unwrap();
    cluster.running("after", 2).await.unwrap();

    cluster.machines[leader].power_on().await.unwrap();
    cluster.ready(4).await.unwrap();
    cluster.running("before", 4).await.unwrap();
    eventually("the returned manager to know what happened", async || {
        let returned = &cluster.machines[leader];
        ensure!(!returned.tasks("after").await?.is_empty(), "no task of it");
        Ok(())
    })
    .await
    .unwrap();
    let running = cluster.machines[leader].executor.running();
    for (task, number) in containers {
        assert_eq!(
            running.get(&task),
            Some(&number),
            "its containers have run on"
        );
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_becomes_manager_and_worker_again_without_touching_its_tasks() {
    let cluster = Cluster::new().managers(3).workers(1).start().await.unwrap();
    let (manager, worker) = (&cluster.machines[0], &cluster.machines[3]);
    let node = worker.node_id().unwrap();
    manager.create_service("web", 8).await.unwrap();
    cluster.running("web", 8).await.unwrap();
    let containers = worker.executor.running();
    assert_eq!(containers.len(), 2);

    manager.set_role(node, NodeRole::Manager).await.unwrap();
    eventually("the new manager to answer and be reached", async || {
        let view = worker.self_view().await?;
        ensure!(
            view.node.is_some_and(|node| node.manager_status.is_some()),
            "not announced"
        );
        let view = worker.daemon()?.view().borrow().clone();
        ensure!(view.standing == Standing::Active, "{view:?}");
        Ok(())
    })
    .await
    .unwrap();
    worker.scale("web", 12).await.unwrap();
    cluster.running("web", 12).await.unwrap();

    manager.set_role(node, NodeRole::Worker).await.unwrap();
    eventually("the manager to be a worker", async || {
        let view = worker.daemon()?.view().borrow().clone();
        let role = view.member.as_ref().map(|member| member.role);
        ensure!(
            role == Some(NodeRole::Worker) && view.standing == Standing::Active,
            "{view:?}"
        );
        ensure!(
            worker.self_view().await.is_err(),
            "it still answers as manager"
        );
        Ok(())
    })
    .await
    .unwrap();
    cluster.running("web", 12).await.unwrap();
    let running = worker.executor.running();
    for (task, number) in containers {
        assert_eq!(
            running.get(&task),
            Some(&number),
            "its containers have run on"
        );
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_demoted_like_any_other_but_not_the_last_manager() {
    let cluster = Cluster::new().managers(2).start().await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let (demoted, other) = (&cluster.machines[leader], &cluster.machines[1 - leader]);
    let node = demoted.node_id().unwrap();
    demoted.set_role(node, NodeRole::Worker).await.unwrap();
    eventually("the former leader to be a worker", async || {
        let view = demoted.daemon()?.view().borrow().clone();
        let role = view.member.as_ref().map(|member| member.role);
        ensure!(
            role == Some(NodeRole::Worker) && view.standing == Standing::Active,
            "{view:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    cluster.ready(2).await.unwrap();
    other.create_service("web", 2).await.unwrap();
    cluster.running("web", 2).await.unwrap();
    let last = other
        .set_role(other.node_id().unwrap(), NodeRole::Worker)
        .await
        .unwrap_err();
    assert!(last.to_string().contains("last manager"), "{last}");
    // And back: the group takes it in again under another id.
    other.set_role(node, NodeRole::Manager).await.unwrap();
    eventually("two managers", async || demoted.self_view().await.map(drop))
        .await
        .unwrap();
    demoted.scale("web", 4).await.unwrap();
    cluster.running("web", 4).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_was_demoted_while_it_was_off_comes_back_as_worker() {
    let mut cluster = Cluster::new().managers(3).start().await.unwrap();
    cluster.machines[0].create_service("web", 3).await.unwrap();
    cluster.running("web", 3).await.unwrap();
    let node = cluster.machines[2].node_id().unwrap();
    cluster.machines[2].power_off().await;
    let other = cluster.leader().await.unwrap();
    cluster.machines[other]
        .set_role(node, NodeRole::Worker)
        .await
        .unwrap();
    eventually("the group to go on without it", async || {
        let nodes = cluster.machines[other].nodes().await?;
        let members = nodes
            .iter()
            .filter_map(|it| it.node.as_ref()?.manager_status.as_ref());
        let members = members.count();
        ensure!(members == 2, "{members} managers");
        Ok(())
    })
    .await
    .unwrap();
    cluster.machines[2].power_on().await.unwrap();
    eventually("it to be a worker", async || {
        let view = cluster.machines[2].daemon()?.view().borrow().clone();
        let role = view.member.as_ref().map(|member| member.role);
        ensure!(
            role == Some(NodeRole::Worker) && view.standing == Standing::Active,
            "{view:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
    cluster.ready(3).await.unwrap();
    cluster.machines[other].scale("web", 6).await.unwrap();
    cluster.running("web", 6).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving() {
    let cluster = Cluster::new().managers(3).workers(1).start().await.unwrap();
    let machines = &cluster.machines;
    machines[0].create_service("web", 8).await.unwrap();
    cluster.running("web", 8).await.unwrap();

    machines[3].daemon().unwrap().leave(false).await.unwrap();
    assert!(
        machines[3].executor.running().is_empty(),
        "its containers go with it"
    );
    let view = machines[3].daemon().unwrap().view().borrow().clone();
    assert_eq!(view.standing, Standing::Inactive);
    let again = machines[3]
        .daemon()
        .unwrap()
        .leave(false)
        .await
        .unwrap_err();
    assert!(matches!(again, Error::NotMember), "{again}");
    eventually("the node that left to be down", async || {
        let nodes = machines[0].nodes().await?;
        let statuses = nodes.into_iter().filter_map(|view| view.node?.status);
        let left = statuses
            .filter(|it| it.message == "node left the swarm")
            .count();
        ensure!(left == 1, "the managers wait for it to come back");
        Ok(())
    })
    .await
    .unwrap();

    let leader = cluster.leader().await.unwrap();
    let daemon = machines[leader].daemon().unwrap();
    let refused = daemon.leave(false).await.unwrap_err();
    assert!(refused.to_string().contains("--force"), "{refused}");
    daemon.leave(true).await.unwrap();
    cluster.running("web", 8).await.unwrap();

    // Those left are a quorum of themselves: the one that left was taken out first.
    let rest: Vec<_> = (0..3).filter(|it| *it != leader).collect();
    machines[rest[0]]
        .daemon()
        .unwrap()
        .leave(true)
        .await
        .unwrap();
    let last = &machines[rest[1]];
    eventually("the last manager to lead", async || {
        ensure!(last.self_view().await?.leader, "it does not");
        Ok(())
    })
    .await
    .unwrap();
    let refused = last.daemon().unwrap().leave(false).await.unwrap_err();
    assert!(refused.to_string().contains("last manager"), "{refused}");
    last.daemon().unwrap().leave(true).await.unwrap();
    let view = last.daemon().unwrap().view().borrow().clone();
    assert_eq!(view.standing, Standing::Inactive);
    let init = Init {
        listen_addr: "127.0.0.1:0".to_owned(),
        ..Init::default()
    };
    last.daemon().unwrap().init(init).await.unwrap();
    assert!(
        last.tasks("web").await.is_err(),
        "nothing of the former swarm is left"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_that_was_switched_off_comes_back_with_its_state() {
    let mut cluster = Cluster::new().managers(3).workers(1).start().await.unwrap();
    cluster.machines[0].create_service("web", 8).await.unwrap();
    cluster.running("web", 8).await.unwrap();
    let containers: Vec<_> = cluster
        .machines
        .iter()
        .map(|machine| machine.executor.running())
        .collect();
    let mut nodes: Vec<_> = cluster
        .machines
        .iter()
        .map(|it| it.node_id().unwrap())
        .collect();
    for machine in &mut cluster.machines {
        machine.power_off().await;
    }
    for machine in &mut cluster.machines {
        machine.power_on().await.unwrap();
    }
    cluster.ready(4).await.unwrap();
    cluster.running("web", 8).await.unwrap();
    for (machine, before) in cluster.machines.iter().zip(containers) {
        assert_eq!(machine.executor.running(), before, "{}", machine.name);
    }
    let mut after: Vec<_> = cluster
        .machines
        .iter()
        .map(|it| it.node_id().unwrap())
        .collect();
    nodes.sort_unstable();
    after.sort_unstable();
    assert_eq!(nodes, after, "everybody is who they were");
    cluster.machines[1].scale("web", 9).await.unwrap();
    cluster.running("web", 9).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tokens_let_nobody_in_and_leave_nothing_behind() {
    let mut cluster = Cluster::new().managers(1).start().await.unwrap();
    let index = cluster.add_machine("late").await.unwrap();
    let (manager, late) = (&cluster.machines[0], &cluster.machines[index]);
    let remote = manager.advertise_addr().unwrap();
    let good = cluster.token(NodeRole::Worker).await.unwrap();
    let wrong_secret = format!("{}{}", &good[..good.len() - 25], "0".repeat(25));
    let foreign = format!("SWMTKN-1-{}-{}", "1".repeat(50), &good[good.len() - 25..]);
    for (token, words) in [
        ("", "empty"),
        ("nonsense", "join token"),
        (&good[..good.len() - 1], "cut off"),
        (&wrong_secret, "valid join token"),
        (&foreign, "root certificate"),
    ] {
        let refused = late.join(token, &remote).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{token}: {refused}");
        assert_eq!(
            late.daemon().unwrap().view().borrow().standing,
            Standing::Inactive
        );
    }
    let nobody = late.join(&good, "127.0.0.1:1").await.unwrap_err();
    assert!(format!("{nobody:#}").contains("127.0.0.1:1"), "{nobody:#}");
    assert_eq!(manager.nodes().await.unwrap().len(), 1);

    // A rotated token is wrong too, the new one is right.
    let request = RotateJoinTokenRequest {
        role: objects::NodeRole::Worker.into(),
    };
    let mut control = manager.control().await.unwrap();
    let fresh = control
        .rotate_join_token(request)
        .await
        .unwrap()
        .into_inner()
        .token;
    late.join(&good, &remote).await.unwrap_err();
    late.join(&fresh, &remote).await.unwrap();
    cluster.ready(2).await.unwrap();
    for machine in &cluster.machines {
        let again = machine.join(&fresh, &remote).await.unwrap_err().to_string();
        assert!(again.contains("already part of a swarm"), "{again}");
        let again = machine
            .daemon()
            .unwrap()
            .init(Init::default())
            .await
            .unwrap_err();
        assert!(matches!(again, Error::AlreadyMember), "{again}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_refused_and_lets_go() {
    let mut cluster = Cluster::new().managers(1).workers(2).start().await.unwrap();
    cluster.machines[0].create_service("web", 3).await.unwrap();
    cluster.running("web", 3).await.unwrap();
    let mut control = cluster.machines[0].control().await.unwrap();
    let mut remove = async |index: usize, force: bool| {
        let key = cluster.machines[index].node_id().unwrap().to_string();
        control
            .remove_node(RemoveNodeRequest { key, force })
            .await
            .map(drop)
    };
    let refused = remove(1, false).await.unwrap_err();
    assert!(refused.message().contains("not down"), "{refused}");
    let refused = remove(0, true).await.unwrap_err();
    assert!(refused.message().contains("manager"), "{refused}");
    remove(1, true).await.unwrap();
    eventually("the removed node to let go", async || {
        let removed = &cluster.machines[1];
        let view = removed.daemon()?.view().borrow().clone();
        ensure!(view.standing == Standing::Inactive, "{view:?}");
        ensure!(removed.executor.running().is_empty(), "its tasks run on");
        Ok(())
    })
    .await
    .unwrap();
    cluster.running("web", 3).await.unwrap();

    // One that was off meanwhile learns it when it comes back.
    let id = cluster.machines[2].node_id().unwrap().to_string();
    cluster.machines[2].power_off().await;
    control
        .remove_node(RemoveNodeRequest {
            key: id,
            force: true,
        })
        .await
        .unwrap();
    cluster.machines[2].power_on().await.unwrap();
    eventually("the returned node to let go", async || {
        let view = cluster.machines[2].daemon()?.view().borrow().clone();
        ensure!(view.standing == Standing::Inactive, "{view:?}");
        Ok(())
    })
    .await
    .unwrap();
    // It may join again, as another node.
    let token = cluster.token(NodeRole::Worker).await.unwrap();
    let remote = cluster.machines[0].advertise_addr().unwrap();
    cluster.machines[2].join(&token, &remote).await.unwrap();
    cluster.ready(2).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_is_down_and_its_tasks_move() {
    let mut cluster = Cluster::new().managers(1).workers(2).start().await.unwrap();
    cluster.machines[0].create_service("web", 6).await.unwrap();
    cluster.running("web", 6).await.unwrap();
    cluster.machines[1].power_off().await;
    let off = cluster.machines[1].executor.running();
    assert_eq!(off.len(), 2, "containers run on without a daemon");
    eventually("the node to be down", async || {
        let nodes = cluster.machines[0].nodes().await?;
        ensure!(
            nodes.iter().any(|it| state(it) == NodeState::Down),
            "all nodes are up"
        );
        Ok(())
    })
    .await
    .unwrap();
    eventually("the others to run all tasks", async || {
        let [first, _, third] = &cluster.machines[..] else {
            panic!("three machines")
        };
        let running = first.executor.running().len() + third.executor.running().len();
        ensure!(running == 6, "{running} run");
        Ok(())
    })
    .await
    .unwrap();
    cluster.shutdown().await;
}

#[tokio::test]
async fn one_directory_has_one_daemon() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let mut options = cluster.machines[0].options();
    options.socket.set_extension("other");
    let refused = Daemon::start(options).await.err().unwrap();
    assert!(refused.to_string().contains("in use"), "{refused}");
    cluster.machines[0].self_view().await.unwrap();
    cluster.shutdown().await;
}
