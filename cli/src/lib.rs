//! The library face of the program `fermata`.
