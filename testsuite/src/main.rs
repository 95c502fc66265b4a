//! The program `testsuite`: conformance, models, benchmarks against peers.

fn main() {}
