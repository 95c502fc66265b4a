//! The program `fermata`.

fn main() {}
