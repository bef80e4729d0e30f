//! Cutting the ways between nodes of a lab: one way or both, silently, as a broken network does.

use anyhow::Result;

use crate::Lab;
use crate::net::ip;

/// Nobody's hardware address: frames to it are dropped by all who see them.
const NOBODY: &str = "02:00:00:00:de:ad";

impl Lab {
    /// From now on nothing of node `from` reaches node `to`; the other way stays as it is. Nobody
    /// is told: packets just do not arrive.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        let address = self.node(to).address().to_string();
        let namespace = self.node(from).namespace();
        let to_nobody = ["lladdr", NOBODY, "dev", "eth0", "nud", "permanent"];
        let words = ["-n", namespace, "neigh", "replace", &address];
        ip(&[&words[..], &to_nobody].concat())
    }

    /// Undoes [`Lab::cut`].
    ///
    /// # Errors
    /// When it was not cut.
    pub fn mend(&self, from: usize, to: usize) -> Result<()> {
        let address = self.node(to).address().to_string();
        let namespace = self.node(from).namespace();
        ip(&["-n", namespace, "neigh", "del", &address, "dev", "eth0"])
    }
}
