//! DNS in the sandboxes: who is called what ([`zone`]), what that answers ([`answer`]), and the
//! sockets on which it is asked and passed on ([`server`], [`forward`]).

pub mod answer;
pub mod forward;
mod listen;
pub mod name;
pub mod server;
mod tcp;
pub mod zone;

pub use listen::Sockets;
pub use server::Server;
pub use zone::Zone;
