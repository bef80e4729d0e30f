//! Which object a key means.

use store::Action;
use types::{NodeId, TaskState};

use crate::testing::Fixture;

#[tokio::test]
async fn services_are_found_by_id_then_name_then_prefix() {
    let fixture = Fixture::new(1, 0).await;
    let web = fixture.service("Web").await;
    // A name that looks like the beginning of the other's id must win over the prefix.
    let prefix = &web.id.as_str()[..4];
    let named_like_prefix = fixture.service(prefix).await;
    let find = |key: &str| fixture.api.get_service(key).map(|view| view.service.id);
    assert_eq!(find(web.id.as_str()), Ok(web.id));
    assert_eq!(find("web"), Ok(web.id), "names are compared without case");
    assert_eq!(find(prefix), Ok(named_like_prefix.id));
    assert_eq!(find(&web.id.as_str()[..12]), Ok(web.id));
    for (key, problem) in [
        ("nope!", "service nope! not found"),
        ("", "service \"\" not found"),
        ("web ", "service web  not found"),
    ] {
        assert_eq!(find(key).unwrap_err().to_string(), problem);
    }
}

#[tokio::test]
async fn nodes_are_found_by_self_host_name_and_prefix() {
    let fixture = Fixture::new(1, 2).await;
    let find = |key: &str| fixture.api.get_node(key).map(|view| view.node.id);
    assert_eq!(find("self"), Ok(NodeId::from_number(1)));
    assert_eq!(find("N2"), Ok(NodeId::from_number(2)));
    assert_eq!(
        find("000").unwrap_err().to_string(),
        "node 000 is ambiguous (3 matches found): use more characters of the id"
    );
    assert_eq!(find("n9").unwrap_err().to_string(), "node n9 not found");
    // Host names need not be unique.
    let mut twin = types::Node::clone(fixture.store.state().node(NodeId::from_number(2)).unwrap());
    twin.id = NodeId::from_number(1 << 90);
    fixture.put(twin).await;
    assert_eq!(
        find("n2").unwrap_err().to_string(),
        "node n2 is ambiguous (2 matches found): use more characters of the id"
    );
}

#[tokio::test]
async fn a_task_name_means_the_live_task() {
    let fixture = Fixture::new(1, 1).await;
    let web = fixture.service("web").await;
    let old = fixture.task(1, &web, 1, 2, TaskState::Failed).await;
    let new = fixture.task(2, &web, 1, 2, TaskState::Running).await;
    let find = |key: &str| fixture.api.get_task(key).map(|task| task.id);
    assert!(
        find("web.1")
            .unwrap_err()
            .to_string()
            .contains("ambiguous (2 matches")
    );
    fixture
        .act(Action::TaskDesired {
            task: old,
            desired: TaskState::Shutdown,
        })
        .await;
    assert_eq!(find("web.1"), Ok(new));
    assert_eq!(find(old.as_str()), Ok(old));
    assert_eq!(
        find("web.2").unwrap_err().to_string(),
        "task web.2 not found"
    );
}
