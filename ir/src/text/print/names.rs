//! Names of variables and of constants in the text.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::literal::quote;
use super::super::token::is_plain_name;
use crate::entity::SecondaryMap;
use crate::expr::{ConstId, Module, VarId};

/// `%name`, in quotes where it needs them.
pub(super) fn sigil(sigil: char, name: &str) -> String {
    if is_plain_name(name) { format!("{sigil}{name}") } else { format!("{sigil}{}", quote(name)) }
}

/// A name that is not taken: the wanted one, or that with the first free number.
/// `next` remembers where to go on counting.
fn fresh(wanted: &str, taken: impl Fn(&str) -> bool, next: &mut HashMap<String, usize>) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    let count = next.entry(wanted.to_owned()).or_insert(1);
    loop {
        let name = format!("{wanted}_{count}");
        *count += 1;
        if !taken(&name) {
            return name;
        }
    }
}

/// The names of the variables of a function: as written, with a number where an outer
/// variable in scope has the same name.
#[derive(Default)]
pub(super) struct VarNames {
    names: SecondaryMap<VarId, Option<Arc<str>>>,
    in_scope: HashSet<Arc<str>>,
    /// How far each written name has been counted by declarations in scope.
    counts: HashMap<Arc<str>, usize>,
    declared: Vec<Declared>,
}

/// A declaration in scope, with what to restore when it ends.
struct Declared {
    var: VarId,
    name: Arc<str>,
    count_before: usize,
}

impl VarNames {
    /// Names a variable until the scope ends.
    pub fn declare(&mut self, module: &Module, var: VarId) -> Arc<str> {
        let wanted = &module.vars[var].name;
        let count = self.counts.entry(wanted.clone()).or_insert(0);
        let count_before = *count;
        let mut name = wanted.clone();
        while self.in_scope.contains(&name) {
            *count += 1;
            name = format!("{wanted}_{count}").into();
        }
        self.in_scope.insert(name.clone());
        self.declared.push(Declared { var, name: name.clone(), count_before });
        self.names[var] = Some(name.clone());
        name
    }

    /// The name of a variable; a free one is declared where it is first met.
    pub fn get(&mut self, module: &Module, var: VarId) -> Arc<str> {
        match &self.names[var] {
            Some(name) => name.clone(),
            None => self.declare(module, var),
        }
    }

    /// The present scope, for [`VarNames::leave`].
    pub fn mark(&self) -> usize {
        self.declared.len()
    }

    /// Ends the scopes that began since the mark.
    pub fn leave(&mut self, module: &Module, mark: usize) {
        for Declared { var, name, count_before } in self.declared.drain(mark..).rev() {
            self.names[var] = None;
            self.in_scope.remove(&name);
            self.counts.insert(module.vars[var].name.clone(), count_before);
        }
    }
}

/// The names of constants in the weights file, in the order in which they are met.
pub(super) struct ConstNames {
    names: SecondaryMap<ConstId, Option<Arc<str>>>,
    by_name: HashMap<Arc<str>, ConstId>,
    next: HashMap<String, usize>,
    /// What the weights file must hold.
    pub weights: Vec<(Arc<str>, ConstId)>,
}

impl ConstNames {
    pub fn new() -> ConstNames {
        ConstNames {
            names: SecondaryMap::new(),
            by_name: HashMap::new(),
            next: HashMap::new(),
            weights: Vec::new(),
        }
    }

    /// The name of a constant: its own, or a numbered one.
    pub fn get(&mut self, module: &Module, id: ConstId) -> Arc<str> {
        if let Some(name) = &self.names[id] {
            return name.clone();
        }
        let constant = &module.consts[id];
        let wanted = constant.name.clone().unwrap_or_else(|| "const".into());
        let same = |other: &ConstId| module.consts[*other].tensor.bitwise_eq(&constant.tensor);
        let name = if constant.name.is_some() && self.by_name.get(&wanted).is_some_and(same) {
            wanted
        } else {
            let name: Arc<str> = fresh(&wanted, |n| self.by_name.contains_key(n), &mut self.next).into();
            self.by_name.insert(name.clone(), id);
            self.weights.push((name.clone(), id));
            name
        };
        self.names[id] = Some(name.clone());
        name
    }
}
