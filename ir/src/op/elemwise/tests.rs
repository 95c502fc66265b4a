//! Tests of the elementwise operators.
