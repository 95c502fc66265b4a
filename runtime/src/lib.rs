//! Code to results: devices, micro-kernels and the executor.
