//! One stored object of any kind, and its name across kinds.

use std::fmt;
use std::sync::Arc;

use types::{
    Cluster, ClusterId, Config, ConfigId, Meta, Network, NetworkId, Node, NodeId, Secret, SecretId,
    Service, ServiceId, Task, TaskId,
};

/// The kinds of stored objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A machine.
    Node,
    /// A declared service.
    Service,
    /// An attempt to run it.
    Task,
    /// The settings of the whole.
    Cluster,
    /// Content only named tasks see.
    Secret,
    /// Content tasks can read.
    Config,
    /// A network.
    Network,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Node => "node",
            Self::Service => "service",
            Self::Task => "task",
            Self::Cluster => "cluster",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Network => "network",
        })
    }
}

/// A stored object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A machine.
    Node(Arc<Node>),
    /// A declared service.
    Service(Arc<Service>),
    /// An attempt to run it.
    Task(Arc<Task>),
    /// The settings of the whole.
    Cluster(Arc<Cluster>),
    /// Content only named tasks see.
    Secret(Arc<Secret>),
    /// Content tasks can read.
    Config(Arc<Config>),
    /// A network.
    Network(Arc<Network>),
}

impl Object {
    /// Its kind and id.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Node(o) => ObjectId::Node(o.id),
            Self::Service(o) => ObjectId::Service(o.id),
            Self::Task(o) => ObjectId::Task(o.id),
            Self::Cluster(o) => ObjectId::Cluster(o.id),
            Self::Secret(o) => ObjectId::Secret(o.id),
            Self::Config(o) => ObjectId::Config(o.id),
            Self::Network(o) => ObjectId::Network(o.id),
        }
    }

    /// Its version and times.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Node(o) => &o.meta,
            Self::Service(o) => &o.meta,
            Self::Task(o) => &o.meta,
            Self::Cluster(o) => &o.meta,
            Self::Secret(o) => &o.meta,
            Self::Config(o) => &o.meta,
            Self::Network(o) => &o.meta,
        }
    }

    /// The same object with other version and times.
    pub(crate) fn with_meta(self, meta: Meta) -> Self {
        match self {
            Self::Node(mut o) => {
                Arc::make_mut(&mut o).meta = meta;
                Self::Node(o)
            }
            Self::Service(mut o) => {
                Arc::make_mut(&mut o).meta = meta;
                Self::Service(o)
            }
            Self::Task(mut o) => {
                Arc::make_mut(&mut o).meta = meta;
                Self::Task(o)
            }
            Self::Cluster(mut o) => {
                Arc::make_mut(&mut o).meta = meta;
                Self::Cluster(o)
            }
            Self::Secret(mut o) => {
                Arc::make_mut(&mut o).meta = meta;
                Self::Secret(o)
            }
            Self::Config(mut o) => {
                Arc::make_mut(&mut o).meta = meta;
                Self::Config(o)
            }
            Self::Network(mut o) => {
                Arc::make_mut(&mut o).meta = meta;
                Self::Network(o)
            }
        }
    }
}

macro_rules! object_from {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Arc::new(object))
            }
        }
        impl From<Arc<$kind>> for Object {
            fn from(object: Arc<$kind>) -> Self {
                Self::$kind(object)
            }
        }
    )*};
}
object_from!(Node, Service, Task, Cluster, Secret, Config, Network);

/// Kind and id of a stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// A node's.
    Node(NodeId),
    /// A service's.
    Service(ServiceId),
    /// A task's.
    Task(TaskId),
    /// The cluster's.
    Cluster(ClusterId),
    /// A secret's.
    Secret(SecretId),
    /// A config's.
    Config(ConfigId),
    /// A network's.
    Network(NetworkId),
}

impl ObjectId {
    /// The kind alone.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Node(_) => Kind::Node,
            Self::Service(_) => Kind::Service,
            Self::Task(_) => Kind::Task,
            Self::Cluster(_) => Kind::Cluster,
            Self::Secret(_) => Kind::Secret,
            Self::Config(_) => Kind::Config,
            Self::Network(_) => Kind::Network,
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node {id}"),
            Self::Service(id) => write!(f, "service {id}"),
            Self::Task(id) => write!(f, "task {id}"),
            Self::Cluster(id) => write!(f, "cluster {id}"),
            Self::Secret(id) => write!(f, "secret {id}"),
            Self::Config(id) => write!(f, "config {id}"),
            Self::Network(id) => write!(f, "network {id}"),
        }
    }
}
