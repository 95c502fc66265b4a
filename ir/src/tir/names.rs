//! Names for people, made unique.

use std::collections::{HashMap, HashSet};

/// Words of the text format that no name may be.
const RESERVED: &[&str] = &[
    "T", "and", "as", "def", "elif", "else", "False", "for", "from", "if", "import", "in", "is", "lambda",
    "None", "not", "or", "pass", "range", "return", "True", "while", "with",
];

/// Gives out names, each once: a name that is taken gets a suffix `_1`, `_2` and so on.
#[derive(Clone, Debug, Default)]
pub struct Unique {
    taken: HashSet<String>,
    /// The next suffix to try for a stem, so that a thousand equal names are not quadratic.
    next: HashMap<String, u32>,
}

impl Unique {
    /// The name itself if it is free and an identifier, else one like it.
    pub fn take(&mut self, hint: &str) -> String {
        let stem = identifier(hint);
        if !RESERVED.contains(&stem.as_str()) && self.taken.insert(stem.clone()) {
            return stem;
        }
        let next = self.next.entry(stem.clone()).or_insert(1);
        loop {
            let name = format!("{stem}_{next}");
            *next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// Makes a name free again, when its scope ends.
    pub fn release(&mut self, name: &str) {
        self.taken.remove(name);
        // The stem may now have a smaller free suffix.
        if let Some((stem, suffix)) = name.rsplit_once('_')
            && suffix.bytes().all(|b| b.is_ascii_digit())
        {
            self.next.remove(stem);
        }
    }
}

/// The name with every character that an identifier cannot have replaced by `_`.
fn identifier(hint: &str) -> String {
    let mut name: String =
        hint.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_names_get_suffixes() {
        let mut names = Unique::default();
        let given: Vec<String> =
            ["i", "i", "i_1", "i", "for", "3x", ""].iter().map(|n| names.take(n)).collect();
        assert_eq!(given, ["i", "i_1", "i_1_1", "i_2", "for_1", "_3x", "_"]);
    }

    #[test]
    fn a_released_name_is_free() {
        let mut names = Unique::default();
        names.take("i");
        assert_eq!(names.take("i"), "i_1");
        names.release("i_1");
        assert_eq!(names.take("i"), "i_1");
    }
}
