//! The request of every RPC: decoding, and turning what was decoded into nouns.

use prost::Message;
use proto::{control, dispatcher, logs, objects};
use types::{ClusterSpec, Node, NodeSpec, Service, ServiceSpec, Task, TaskStatus};

/// The path of an RPC, a NUL, and the bytes of a request. Without a known path the first byte
/// chooses the RPC.
pub(crate) fn rpc_request(data: &[u8]) {
    let (path, body) = split(data);
    let decoded = proto::decode_request(path, body).expect("the path is that of an RPC");
    if decoded.is_ok() {
        convert(path, body);
    }
}

fn split(data: &[u8]) -> (&'static str, &[u8]) {
    let end = data.iter().position(|byte| *byte == 0);
    if let Some((name, body)) = end.map(|end| (&data[..end], &data[end + 1..]))
        && let Some(path) = proto::RPCS.iter().find(|path| path.as_bytes() == name)
    {
        return (path, body);
    }
    let (first, body) = data.split_first().unwrap_or((&0, &[]));
    (proto::RPCS[usize::from(*first) % proto::RPCS.len()], body)
}

fn decode<T: Message + Default>(body: &[u8]) -> T {
    T::decode(body).expect("it was decoded before")
}

/// What the service behind the RPC makes of the message before it looks at the cluster.
fn convert(path: &str, body: &[u8]) {
    match path.trim_start_matches("/swarm.") {
        "control.v1.Control/CreateService" => {
            service_spec(decode::<control::CreateServiceRequest>(body).spec);
        }
        "control.v1.Control/UpdateService" => {
            service_spec(decode::<control::UpdateServiceRequest>(body).spec);
        }
        "control.v1.Control/UpdateNode" => {
            let spec = decode::<control::UpdateNodeRequest>(body).spec;
            drop(spec.map(NodeSpec::try_from));
        }
        "daemon.v1.Daemon/Init" => {
            let spec = decode::<proto::daemon::InitRequest>(body).spec;
            drop(spec.map(ClusterSpec::try_from));
        }
        "dispatcher.v1.Dispatcher/Session" => session(decode(body)),
        "logs.v1.LogBroker/Publish" => {
            for line in decode::<logs::PublishMessage>(body).lines {
                drop(line.task_id.parse::<types::TaskId>());
            }
        }
        "raft.v1.Raft/Propose" => {
            let data = decode::<proto::raft::ProposeRequest>(body).data;
            super::records::transaction(&data);
        }
        // Keys, names and numbers, which are only compared.
        _ => {}
    }
    // Objects come back in answers, and from the store: the same bytes as each of them.
    round_trip::<objects::Service, Service>(body);
    round_trip::<objects::Task, Task>(body);
    round_trip::<objects::Node, Node>(body);
    round_trip::<objects::Cluster, types::Cluster>(body);
}

fn service_spec(spec: Option<objects::ServiceSpec>) {
    let Some(Ok(spec)) = spec.map(ServiceSpec::try_from) else {
        return;
    };
    let again = ServiceSpec::try_from(objects::ServiceSpec::from(&spec));
    let is_number = |spec: &ServiceSpec| {
        // A ratio that is no number is not equal to itself.
        let updates = [&spec.update_config, &spec.rollback_config];
        updates.iter().all(|it| !it.max_failure_ratio.is_nan())
    };
    if is_number(&spec) {
        assert_eq!(again.as_ref(), Ok(&spec));
    }
}

fn session(message: dispatcher::AgentMessage) {
    use dispatcher::agent_message::Message;
    match message.message {
        Some(Message::Register(register)) => {
            drop(
                register
                    .description
                    .map(types::node::NodeDescription::try_from),
            );
        }
        Some(Message::Description(description)) => {
            drop(types::node::NodeDescription::try_from(description));
        }
        Some(Message::Statuses(batch)) => {
            for report in batch.reports {
                drop(report.status.map(TaskStatus::try_from));
            }
        }
        Some(_) | None => {}
    }
}

fn round_trip<M, T>(body: &[u8])
where
    M: Message + Default + for<'a> From<&'a T>,
    T: TryFrom<M>,
{
    if let Ok(Ok(object)) = M::decode(body).map(T::try_from) {
        let again = T::try_from(M::from(&object));
        assert!(again.is_ok(), "what was written is read");
    }
}
