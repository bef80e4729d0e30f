//! Runs a node's tasks as containers: the container executor and its state directory.
//!
//! [`ContainerExecutor`] is what an agent is given to run tasks with. It looks images up in the
//! node's [`image::ImageStore`], plans each container from the task and its image, and
//! has [`container::Runtime`] make it. A container is named by its task's id. Containers outlive
//! the daemon; a controller finds the one of its task again, however far it had come.
//!
//! Below the two directories it is given, the first on disk, the second in memory:
//!
//! ```text
//! containers/<task>/     container::Runtime's: specification, changes, output, exit
//! records/<task>.json    which image the container is from, how to stop it, its labels
//! wireguard.keys         this node's keys for encrypted networks
//! network/               network::Network's: which container has which interfaces and addresses
//! ```

mod blocking;
mod container_executor;
mod content;
mod controller;
mod discovery;
mod encryption;
mod error;
mod gossip;
mod health;
mod key_ring;
mod logs;
mod machine;
mod networks;
mod options;
mod plan;
mod records;
mod template;

pub use container_executor::ContainerExecutor;
pub use datapath_client::ProgramSource;
pub use error::Error;
pub use key_ring::KeyTiming;
pub use options::Options;
