//! Typed ids and the tables they index.
//!
//! An id is a `u32` newtype that prints as the text format spells it. An id means
//! nothing without the table it came from; the table that owns the data is a
//! [`PrimaryMap`], facts about it live beside in a [`SecondaryMap`]. Both are
//! Cranelift's, dense and iterated in id order, so nothing depends on a hash.

use std::marker::PhantomData;

pub use cranelift_entity::{EntityRef, PrimaryMap, SecondaryMap};

/// A set of ids, a bit each up to the largest that was put in.
#[derive(Clone, Debug)]
pub struct EntitySet<K> {
    words: Vec<u64>,
    ids: PhantomData<K>,
}

impl<K: EntityRef> EntitySet<K> {
    /// The empty set.
    pub fn new() -> EntitySet<K> {
        EntitySet { words: Vec::new(), ids: PhantomData }
    }

    /// Puts an id in; false if it was there.
    pub fn insert(&mut self, id: K) -> bool {
        let (word, bit) = place(id);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Takes an id out; false if it was not there.
    pub fn remove(&mut self, id: K) -> bool {
        let (word, bit) = place(id);
        match self.words.get_mut(word) {
            Some(bits) if *bits & bit != 0 => {
                *bits &= !bit;
                true
            }
            _ => false,
        }
    }

    /// True if an id is in the set.
    pub fn contains(&self, id: K) -> bool {
        let (word, bit) = place(id);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

impl<K: EntityRef> Default for EntitySet<K> {
    fn default() -> EntitySet<K> {
        EntitySet::new()
    }
}

/// The word that an id's bit is in, and the bit.
fn place(id: impl EntityRef) -> (usize, u64) {
    (id.index() / 64, 1 << (id.index() % 64))
}

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

#[cfg(test)]
mod tests {
    use super::EntitySet;
    use crate::entity::EntityRef;
    use crate::expr::ExprId;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set: EntitySet<ExprId> = EntitySet::new();
        let [a, b] = [3, 200].map(ExprId::new);
        assert!(!set.contains(b) && !set.remove(b));
        assert!(set.insert(b) && !set.insert(b) && set.contains(b));
        assert!(set.insert(a) && set.remove(b) && !set.contains(b) && set.contains(a));
    }
}
