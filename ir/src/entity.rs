//! Typed ids and the tables they index.
//!
//! An id is a `u32` newtype that prints as the text format spells it. An id means
//! nothing without the table it came from; the table that owns the data is a
//! [`PrimaryMap`], facts about it live beside in a [`SecondaryMap`]. Both are
//! Cranelift's, dense and iterated in id order, so nothing depends on a hash.

pub use cranelift_entity::{EntityRef, EntitySet, PrimaryMap, SecondaryMap};

/// Declares an id type: a `u32` newtype that prints with the given prefix.
#[macro_export]
macro_rules! entity_id {
    ($(#[$doc:meta])* $name:ident, $prefix:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);
        $crate::cranelift_entity::entity_impl!($name, $prefix);
    };
}
