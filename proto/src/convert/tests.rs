//! Full objects survive the wire; wrong fields are named.

use std::sync::Arc;
use std::time::Duration;

use types::cluster::{ExternalCa, ExternalCaProtocol, RootCaState, RootRotation};
use types::container_spec::{DnsConfig, Healthcheck, HostAlias, Mount, MountKind, Ulimit};
use types::network::NetworkAttachmentSpec;
use types::node::{
    Availability, KeyDigest, ManagerStatus, NodeCertificate, NodeDescription, NodeState,
    NodeStatus, TlsInfo,
};
use types::service::ServiceMode;
use types::task::{
    ContainerStatus, Limits, Placement, Platform, ResourceRequirements, Resources,
    RestartCondition, RestartPolicy,
};
use types::update::{FailureAction, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus};
use types::{
    Cluster, ClusterId, ClusterSpec, ContainerSpec, Meta, Node, NodeId, NodeRole, NodeSpec,
    Service, ServiceId, ServiceSpec, Task, TaskId, TaskSpec, TaskState, TaskStatus, Timestamp,
    Version,
};

use crate::objects;

fn meta() -> Meta {
    let at = |n| Timestamp(n);
    Meta {
        version: Version { index: 7 },
        created_at: at(1),
        updated_at: at(2),
    }
}

fn labels() -> types::Labels {
    [("a".to_owned(), "b".to_owned())].into()
}

#[expect(clippy::too_many_lines, reason = "every field of a spec")]
fn task_spec() -> TaskSpec {
    TaskSpec {
        container: ContainerSpec {
            image: "web:1".into(),
            labels: labels(),
            command: vec!["sh".into()],
            args: vec!["-c".into()],
            hostname: "h".into(),
            env: vec!["A=1".into()],
            dir: "/d".into(),
            user: "1:2".into(),
            groups: vec!["g".into()],
            dns: DnsConfig {
                nameservers: vec!["fd00::53".parse().unwrap()],
                search: vec!["a.example".into()],
                options: vec!["ndots:2".into()],
            },
            hosts: vec![HostAlias {
                address: "10.0.0.1".parse().unwrap(),
                name: "db".into(),
            }],
            stop_signal: "SIGINT".into(),
            stop_grace_period: Some(Duration::from_millis(5)),
            mounts: vec![Mount {
                kind: MountKind::Tmpfs,
                source: "/s".into(),
                target: "/t".into(),
                read_only: true,
                tmpfs_size_bytes: 9,
                tmpfs_mode: 0o700,
            }],
            read_only: true,
            capability_add: vec!["CAP_A".into()],
            capability_drop: vec!["CAP_B".into()],
            ulimits: vec![Ulimit {
                name: "nofile".into(),
                soft: 1,
                hard: -1,
            }],
            healthcheck: Some(Healthcheck {
                test: vec!["CMD".into(), "true".into()],
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(2),
                start_period: Duration::from_secs(3),
                start_interval: Duration::from_secs(4),
                retries: 5,
            }),
            configs: vec![],
            secrets: vec![],
        },
        resources: ResourceRequirements {
            limits: Limits {
                nano_cpus: 1,
                memory_bytes: 2,
                pids: 3,
            },
            reservations: Resources {
                nano_cpus: 4,
                memory_bytes: 5,
            },
        },
        restart_policy: RestartPolicy {
            condition: RestartCondition::OnFailure,
            delay: Duration::from_secs(1),
            max_attempts: 2,
            window: Duration::from_secs(3),
        },
        placement: Placement {
            constraints: vec!["node.role==worker".into()],
            preferences: vec!["node.labels.zone".into()],
            max_replicas: 4,
            platforms: vec![Platform {
                architecture: "x86_64".into(),
                os: "linux".into(),
            }],
        },
        networks: vec![NetworkAttachmentSpec {
            target: "host".into(),
            aliases: vec![],
            driver_options: Default::default(),
        }],
        force_update: 3,
    }
}

fn service_spec() -> ServiceSpec {
    let config = UpdateConfig {
        parallelism: 2,
        delay: Duration::from_secs(1),
        failure_action: FailureAction::Rollback,
        monitor: Duration::from_secs(2),
        max_failure_ratio: 0.5,
        order: UpdateOrder::StartFirst,
    };
    ServiceSpec {
        name: "web".into(),
        labels: labels(),
        task: Arc::new(task_spec()),
        mode: ServiceMode::Replicated { replicas: 5 },
        update_config: config,
        rollback_config: UpdateConfig::default(),
        endpoint: Default::default(),
    }
}

#[test]
fn a_service_survives_the_wire() {
    for mode in [
        ServiceMode::Replicated { replicas: 0 },
        ServiceMode::Global {},
    ] {
        let service = Service {
            id: ServiceId::from_number(3),
            meta: meta(),
            spec: ServiceSpec {
                mode,
                ..service_spec()
            },
            spec_version: Version { index: 6 },
            previous_spec: Some(service_spec()),
            update_status: Some(UpdateStatus {
                state: UpdateState::RollbackPaused,
                started_at: Timestamp(1),
                completed_at: Timestamp(2),
                message: "m".into(),
            }),
            endpoint: Default::default(),
        };
        assert_eq!(
            Service::try_from(objects::Service::from(&service)),
            Ok(service)
        );
    }
}

#[test]
fn a_task_survives_the_wire() {
    for node_id in [None, Some(NodeId::from_number(8))] {
        let task = Task {
            id: TaskId::from_number(1),
            meta: meta(),
            service_id: ServiceId::from_number(3),
            service_name: "web".into(),
            slot: 4,
            node_id,
            spec: Arc::new(task_spec()),
            spec_version: Version { index: 6 },
            status: TaskStatus {
                state: TaskState::Failed,
                timestamp: Timestamp(1),
                message: "m".into(),
                err: "e".into(),
                container_status: Some(ContainerStatus {
                    container_id: "c".into(),
                    pid: 2,
                    exit_code: Some(0),
                    oom_killed: true,
                    ports: vec![types::network::PublishedPort {
                        target_port: 80,
                        published_port: 32_768,
                        mode: types::network::PublishMode::Host,
                        ..types::network::PublishedPort::default()
                    }],
                }),
                applied_at: Timestamp(3),
            },
            desired_state: TaskState::Shutdown,
            attachments: vec![],
            host_ports: vec![],
        };
        assert_eq!(Task::try_from(objects::Task::from(&task)), Ok(task));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "every field of two objects")]
fn a_node_and_the_cluster_survive_the_wire() {
    let node = Node {
        id: NodeId::from_number(8),
        meta: meta(),
        spec: NodeSpec {
            labels: labels(),
            role: NodeRole::Manager,
            availability: Availability::Drain,
        },
        role: NodeRole::Manager,
        description: Some(NodeDescription {
            hostname: "h".into(),
            platform: Platform {
                architecture: "x86_64".into(),
                os: "linux".into(),
            },
            resources: Resources {
                nano_cpus: 1,
                memory_bytes: 2,
            },
            engine_version: "1".into(),
            engine_labels: labels(),
            network: Default::default(),
            tls: Some(TlsInfo {
                trust_root_digest: "sha256:00".into(),
                cert_issuer_subject: "name".into(),
                cert_issuer_public_key: "key".into(),
            }),
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            message: "m".into(),
            addr: Some("2001:db8::1".parse().unwrap()),
        },
        manager_status: Some(ManagerStatus {
            raft_id: u64::MAX,
            addr: "10.0.0.1:2377".into(),
        }),
        network_index: 0,
        certificate: NodeCertificate {
            keys: vec![KeyDigest([1; 32]), KeyDigest([2; 32])],
            renew_now: true,
        },
    };
    assert_eq!(Node::try_from(objects::Node::from(&node)), Ok(node));

    let cluster = Cluster {
        id: ClusterId::from_number(1),
        meta: meta(),
        spec: ClusterSpec {
            labels: labels(),
            task_history_limit: -1,
            external_cas: vec![ExternalCa {
                protocol: ExternalCaProtocol::Cfssl,
                url: "https://ca.example".into(),
                options: [("profile".into(), "node".into())].into(),
                ca_cert_pem: "root".into(),
            }],
            ..ClusterSpec::default()
        },
        root_ca: RootCaState {
            cert_pem: "c".into(),
            key_pem: "k".into(),
            worker_token: "w".into(),
            manager_token: "m".into(),
            rotation: Some(RootRotation {
                cert_pem: "next".into(),
                key_pem: "next key".into(),
                cross_signed_pem: "next by this".into(),
                skip_unreachable: true,
                started_at: Timestamp(9),
            }),
            lineage: vec!["this by former".into()],
        },
        lock: types::cluster::ClusterLock::default(),
        revoked: [(NodeId::from_number(8), Timestamp(5))].into(),
        gossip_keys: vec![types::Payload::new(vec![1; 32])],
        gossip_keys_at: Timestamp(7),
        content_key: types::Payload::new(vec![7; 32]),
        access: access(),
    };
    assert_eq!(
        Cluster::try_from(objects::Cluster::from(&cluster)),
        Ok(cluster)
    );
}

#[test]
fn wrong_fields_are_named() {
    let service = Service {
        id: ServiceId::from_number(3),
        meta: meta(),
        spec: service_spec(),
        spec_version: Version::default(),
        previous_spec: None,
        update_status: None,
        endpoint: types::network::Endpoint::default(),
    };
    let good = objects::Service::from(&service);
    let field = |message: objects::Service| Service::try_from(message).unwrap_err().field;

    assert_eq!(
        field(objects::Service {
            id: "x".into(),
            ..good.clone()
        }),
        "id"
    );
    assert_eq!(
        field(objects::Service {
            spec: None,
            ..good.clone()
        }),
        "spec"
    );
    let mut bad = good.clone();
    bad.spec
        .as_mut()
        .unwrap()
        .task
        .as_mut()
        .unwrap()
        .restart_policy
        .as_mut()
        .unwrap()
        .condition = 99;
    assert_eq!(field(bad), "condition");
    let mut bad = good;
    bad.spec.as_mut().unwrap().task = None;
    assert_eq!(field(bad), "task");
    assert!(super::task::task_state("state", 1).is_err());
}

fn access() -> types::access::Access {
    use types::access::{Access, Client, ClientRole, NamedToken};
    let token = NamedToken {
        role: NodeRole::Manager,
        token: "t".into(),
        created_at: Timestamp(1),
        expires_at: Some(Timestamp(2)),
        uses_max: Some(3),
        uses: 2,
    };
    let client = Client {
        name: "ci".into(),
        role: ClientRole::Operator,
        created_at: Timestamp(4),
        expires_at: Timestamp(5),
    };
    Access {
        join_tokens: [("batch".to_owned(), token)].into(),
        clients: [(types::ClientId::from_number(9), client)].into(),
        demoted: [(NodeId::from_number(7), Timestamp(6))].into(),
    }
}
