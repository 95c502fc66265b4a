//! Tests of the broadcasting operators.
