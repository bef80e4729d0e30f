//! The nouns of the cluster: ids, specs, objects and task states; no IO.
