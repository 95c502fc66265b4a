//! Names in scope, with shadowing that can be undone.

use std::borrow::Cow;
use std::collections::HashMap;

/// What a name means, and the number of its declaration.
type Entry<T> = (T, usize);

/// A map from names to what they mean now.
pub(super) struct Scope<'t, T> {
    now: HashMap<Cow<'t, str>, Entry<T>>,
    /// What each declaration hid, oldest first.
    hidden: Vec<(Cow<'t, str>, Option<Entry<T>>)>,
}

impl<T> Default for Scope<'_, T> {
    fn default() -> Self {
        Scope { now: HashMap::new(), hidden: Vec::new() }
    }
}

impl<'t, T: Copy> Scope<'t, T> {
    pub fn get(&self, name: &str) -> Option<T> {
        self.now.get(name).map(|&(value, _)| value)
    }

    /// Declares a name until the scope is restored to an earlier mark.
    pub fn declare(&mut self, name: Cow<'t, str>, value: T) {
        let hidden = self.now.insert(name.clone(), (value, self.hidden.len()));
        self.hidden.push((name, hidden));
    }

    /// The present state, for [`Scope::restore`].
    pub fn mark(&self) -> usize {
        self.hidden.len()
    }

    /// Forgets what was declared since the mark.
    pub fn restore(&mut self, mark: usize) {
        while self.hidden.len() > mark {
            let Some((name, before)) = self.hidden.pop() else { return };
            match before {
                Some(value) => self.now.insert(name, value),
                None => self.now.remove(&name),
            };
        }
    }

    /// True if the name was declared after the mark.
    pub fn declared_since(&self, mark: usize, name: &str) -> bool {
        self.now.get(name).is_some_and(|&(_, at)| at >= mark)
    }

    /// The names that were declared, newest first; some may be listed more than once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hidden.iter().rev().map(|(name, _)| &**name)
    }
}
