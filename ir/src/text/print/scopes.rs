//! The tree of scopes of a function, with the innermost scope common to two of them.

/// Index of a scope: a function body, a branch, an arm, or a block in parentheses.
pub(super) type ScopeId = u32;

/// The outermost scope.
pub(super) const ROOT: ScopeId = 0;

#[derive(Clone, Copy)]
struct Scope {
    parent: ScopeId,
    depth: u32,
    /// An ancestor far up, so that climbing takes logarithmic time however deep the tree is.
    jump: ScopeId,
}

/// A tree of scopes that only grows.
pub(super) struct Scopes(Vec<Scope>);

impl Scopes {
    /// The tree of the outermost scope alone.
    pub fn new() -> Scopes {
        Scopes(vec![Scope { parent: ROOT, depth: 0, jump: ROOT }])
    }

    /// Number of scopes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a scope inside another.
    pub fn add(&mut self, parent: ScopeId) -> ScopeId {
        let at = |s: ScopeId| self.0[s as usize];
        let (near, far) = (at(parent), at(at(parent).jump));
        // Two jumps of equal length become one: the lengths follow the skew-binary numbers.
        let equal = near.depth - far.depth == far.depth - at(far.jump).depth;
        let jump = if equal { far.jump } else { parent };
        self.0.push(Scope { parent, depth: near.depth + 1, jump });
        (self.0.len() - 1) as ScopeId
    }

    /// The innermost scope that holds both.
    pub fn common(&self, a: ScopeId, b: ScopeId) -> ScopeId {
        let at = |s: ScopeId| self.0[s as usize];
        let depth = at(a).depth.min(at(b).depth);
        let (mut a, mut b) = (self.climb(a, depth), self.climb(b, depth));
        while a != b {
            (a, b) = match at(a).jump != at(b).jump {
                true => (at(a).jump, at(b).jump),
                false => (at(a).parent, at(b).parent),
            };
        }
        a
    }

    /// The ancestor at a depth.
    fn climb(&self, mut scope: ScopeId, depth: u32) -> ScopeId {
        while self.0[scope as usize].depth > depth {
            let s = self.0[scope as usize];
            scope = if self.0[s.jump as usize].depth >= depth { s.jump } else { s.parent };
        }
        scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_scopes_are_those_of_a_plain_climb() {
        let mut scopes = Scopes::new();
        let mut parents = vec![0u32];
        for i in 1..300u32 {
            let parent = if i % 3 == 0 { (i * 7919) % i } else { i - 1 };
            assert_eq!(scopes.add(parent), i);
            parents.push(parent);
        }
        let up = |mut s: u32| {
            let mut path = vec![s];
            while s != 0 {
                s = parents[s as usize];
                path.push(s);
            }
            path
        };
        for a in (0..300).step_by(7) {
            for b in 0..300 {
                let path = up(a);
                let expected = up(b).into_iter().find(|s| path.contains(s));
                assert_eq!(Some(scopes.common(a, b)), expected, "{a} {b}");
            }
        }
    }
}
