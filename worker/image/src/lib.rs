//! Images on this node: load, import, verify, store, and the layers a container mounts.
