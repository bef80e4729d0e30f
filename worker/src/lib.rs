//! Wires the worker's parts together: the container executor and its state directory.
