//! One stored object of any kind, and its name across kinds.

use std::fmt;
use std::sync::Arc;

use types::{Cluster, ClusterId, Meta, Node, NodeId, Service, ServiceId, Task, TaskId};

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
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Node => "node",
            Self::Service => "service",
            Self::Task => "task",
            Self::Cluster => "cluster",
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
object_from!(Node, Service, Task, Cluster);

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
        }
    }
}
