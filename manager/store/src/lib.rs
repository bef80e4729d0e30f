//! What is true: the objects of the cluster in memory, transactions on them, and the watch.
