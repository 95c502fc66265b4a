//! Extraction: one node of each class, so that the program costs least.
//!
//! A class that several others use is paid once, which makes the best choice a hard problem.
//! Where there are few combinations all are tried. Elsewhere a descent starts from the input
//! program and from the choice that would be best for trees (Knuth's generalisation of
//! Dijkstra's algorithm, 1977), and changes one class at a time as long as that pays; so the
//! result never costs more than the input.
//!
//! A choice must have no cycle. Candidates that need only classes which are cheaper as trees never
//! close one; others are looked at, as long as the looks together stay in proportion to the graph.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use egg::{Id, Language};

use super::convert::Imported;
use super::cost::cost;
use super::facts::Graph;
use super::lang::Node;

/// The most combinations that are all tried.
const MAX_COMBINATIONS: usize = 1 << 12;

/// The most sweeps over all classes in a descent.
const MAX_SWEEPS: usize = 8;

/// How many classes a descent looks at in search of cycles, for each that there is.
const LOOKS: usize = 64;

/// A node for each class that the root reaches, and what they cost together.
pub struct Extraction {
    /// By number of the class.
    pub chosen: Vec<Option<Node>>,
    /// The sum over all classes that the root reaches.
    pub cost: u64,
    /// The same of the input program.
    pub input_cost: u64,
}

/// Chooses.
pub fn extract(imported: &Imported) -> Extraction {
    let table = Table::new(&imported.graph);
    let root = table.find(imported.root);
    let input = table.input(imported);
    let input_cost = table.cost_of(root, &input).expect("the input program has no cycle");
    let choice = match table.exhaustive(root) {
        Some(best) => best,
        None => {
            let (trees, rank) = table.best_trees();
            let from_input = Descent::new(&table, root, input.clone(), &trees, &rank).run();
            let from_trees = Descent::new(&table, root, trees.clone(), &trees, &rank).run();
            let cost = |choice: &Choice| table.cost_of(root, choice).unwrap_or(u64::MAX);
            if cost(&from_trees) < cost(&from_input) { from_trees } else { from_input }
        }
    };
    let found = table.cost_of(root, &choice).unwrap_or(u64::MAX);
    let (choice, cost) = if found < input_cost { (choice, found) } else { (input, input_cost) };
    Extraction { chosen: table.nodes(root, &choice), cost, input_cost }
}

/// For each node of the root's class, a program whose root it is.
#[cfg(test)]
pub fn alternatives(imported: &Imported) -> Vec<Vec<Option<Node>>> {
    let table = Table::new(&imported.graph);
    let root = table.find(imported.root);
    let (trees, _) = table.best_trees();
    let choices = (0..table.classes[&root].len()).filter_map(|number| {
        let mut choice = trees.clone();
        choice.insert(root, number);
        table.order(root, &choice)?;
        Some(table.nodes(root, &choice))
    });
    choices.collect()
}

/// The number of a node of each class.
type Choice = BTreeMap<Id, usize>;

/// A node with its operands' classes and its own cost.
struct Candidate {
    node: Node,
    operands: Vec<Id>,
    cost: u64,
}

/// The candidates of every class.
struct Table<'a> {
    graph: &'a Graph,
    classes: BTreeMap<Id, Vec<Candidate>>,
}

impl<'a> Table<'a> {
    fn new(graph: &'a Graph) -> Table<'a> {
        let canonical = |node: &Node| node.clone().map_children(|c| graph.find(c));
        let preferred: BTreeSet<Node> = graph.analysis.preferred.iter().map(canonical).collect();
        let classes = graph.classes().map(|class| {
            let mut nodes: Vec<&Node> = class.nodes.iter().collect();
            nodes.sort();
            let candidates = nodes.into_iter().map(|node| {
                let operands: BTreeSet<Id> = node.children().iter().map(|&c| graph.find(c)).collect();
                // One less decides only between what costs the same.
                let discount = u64::from(preferred.contains(&canonical(node)));
                let cost = cost(graph, node, &class.data).saturating_sub(discount);
                Candidate { node: node.clone(), operands: operands.into_iter().collect(), cost }
            });
            (class.id, candidates.collect())
        });
        Table { graph, classes: classes.collect() }
    }

    fn find(&self, id: Id) -> Id {
        self.graph.find(id)
    }

    /// The input program: of each class the node that comes first in it. Operands come before
    /// their users, so there is no cycle.
    fn input(&self, imported: &Imported) -> Choice {
        let mut choice = Choice::new();
        for (_, node) in &imported.nodes {
            let node = node.clone().map_children(|c| self.find(c));
            let Some(class) = self.graph.lookup(node.clone()) else { continue };
            let class = self.find(class);
            if let Some(number) = self.classes[&class].iter().position(|c| c.node == node) {
                choice.entry(class).or_insert(number);
            }
            for operand in node.children {
                // Attributes are leaves that the list does not hold.
                choice.entry(operand).or_insert(0);
            }
        }
        choice
    }

    /// What the root costs under a choice, each class once; `None` if the choice has a cycle.
    fn cost_of(&self, root: Id, choice: &Choice) -> Option<u64> {
        let order = self.order(root, choice)?;
        Some(
            order.iter().fold(0u64, |sum, class| sum.saturating_add(self.classes[class][choice[class]].cost)),
        )
    }

    /// The classes that the root reaches, operands first; `None` if there is a cycle.
    fn order(&self, root: Id, choice: &Choice) -> Option<Vec<Id>> {
        let mut done: BTreeMap<Id, bool> = BTreeMap::new();
        let mut order = Vec::new();
        let mut stack = vec![(root, false)];
        while let Some((class, leave)) = stack.pop() {
            if leave {
                done.insert(class, true);
                order.push(class);
                continue;
            }
            match done.get(&class) {
                Some(true) => continue,
                Some(false) => return None,
                None => {}
            }
            done.insert(class, false);
            stack.push((class, true));
            let operands = &self.classes[&class][*choice.get(&class)?].operands;
            if operands.iter().any(|o| done.get(o) == Some(&false)) {
                return None;
            }
            stack.extend(operands.iter().filter(|o| !done.contains_key(o)).map(|&o| (o, false)));
        }
        Some(order)
    }

    fn nodes(&self, root: Id, choice: &Choice) -> Vec<Option<Node>> {
        let order = self.order(root, choice).expect("choices have no cycle");
        let size = order.iter().map(|&c| usize::from(c) + 1).max().unwrap_or(0);
        let mut nodes = vec![None; size];
        for class in order {
            nodes[usize::from(class)] = Some(self.classes[&class][choice[&class]].node.clone());
        }
        nodes
    }

    /// The best of all choices, if there are few.
    fn exhaustive(&self, root: Id) -> Option<Choice> {
        let open: Vec<Id> = self.reachable(root)?;
        let mut best: Option<(u64, Choice)> = None;
        let mut choice: Choice = self.classes.keys().map(|&class| (class, 0)).collect();
        loop {
            if let Some(cost) = self.cost_of(root, &choice)
                && best.as_ref().is_none_or(|(least, _)| cost < *least)
            {
                best = Some((cost, choice.clone()));
            }
            // Count on, the candidates of each class being the digits.
            let advanced = open.iter().find(|class| {
                let digit = choice.get_mut(class).expect("all classes have a choice");
                *digit = (*digit + 1) % self.classes[class].len();
                *digit != 0
            });
            if advanced.is_none() {
                return best.map(|(_, choice)| choice);
            }
        }
    }

    /// The classes of several candidates that the root reaches, unless they have too many combinations.
    fn reachable(&self, root: Id) -> Option<Vec<Id>> {
        let (mut seen, mut stack) = (BTreeSet::from([root]), vec![root]);
        let (mut open, mut combinations) = (Vec::new(), 1usize);
        while let Some(class) = stack.pop() {
            let candidates = &self.classes[&class];
            if candidates.len() > 1 {
                open.push(class);
                combinations = combinations.saturating_mul(candidates.len());
                if combinations > MAX_COMBINATIONS {
                    return None;
                }
            }
            for &operand in candidates.iter().flat_map(|c| &c.operands) {
                if seen.insert(operand) {
                    stack.push(operand);
                }
            }
        }
        // Many combinations of a small part are fewer than few of a large one.
        (combinations.saturating_mul(seen.len()) <= MAX_COMBINATIONS * 16).then_some(open)
    }

    /// The choice that would be best if no class were shared, and the place of each class among
    /// those of lower cost.
    fn best_trees(&self) -> (Choice, Choice) {
        let mut users: BTreeMap<Id, Vec<(Id, usize)>> = BTreeMap::new();
        let mut missing: BTreeMap<(Id, usize), usize> = BTreeMap::new();
        let mut heap = BinaryHeap::new();
        for (&class, candidates) in &self.classes {
            for (number, candidate) in candidates.iter().enumerate() {
                missing.insert((class, number), candidate.operands.len());
                if candidate.operands.is_empty() {
                    heap.push(Reverse((candidate.cost, class, number)));
                }
                for &operand in &candidate.operands {
                    users.entry(operand).or_default().push((class, number));
                }
            }
        }
        let mut best: BTreeMap<Id, u64> = BTreeMap::new();
        let (mut choice, mut rank) = (Choice::new(), Choice::new());
        while let Some(Reverse((cost, class, number))) = heap.pop() {
            if choice.contains_key(&class) {
                continue;
            }
            rank.insert(class, rank.len());
            choice.insert(class, number);
            best.insert(class, cost);
            for &(user, number) in users.get(&class).into_iter().flatten() {
                let left = missing.get_mut(&(user, number)).expect("every candidate is counted");
                *left -= 1;
                if *left == 0 {
                    let candidate = &self.classes[&user][number];
                    let total =
                        candidate.operands.iter().fold(candidate.cost, |sum, o| sum.saturating_add(best[o]));
                    heap.push(Reverse((total, user, number)));
                }
            }
        }
        (choice, rank)
    }
}

/// A choice that is changed class by class, with how often each class is used.
struct Descent<'a> {
    table: &'a Table<'a>,
    choice: Choice,
    /// The choice of classes that were not yet in use.
    fallback: &'a Choice,
    /// The place of each class by its cost as a tree.
    rank: &'a Choice,
    uses: BTreeMap<Id, usize>,
    cost: u64,
    /// Every class needs only classes of lower rank.
    ranked: bool,
    /// How many classes may still be looked at in search of cycles.
    looks: usize,
}

impl<'a> Descent<'a> {
    fn new(
        table: &'a Table<'a>,
        root: Id,
        choice: Choice,
        fallback: &'a Choice,
        rank: &'a Choice,
    ) -> Descent<'a> {
        let (uses, looks) = (BTreeMap::new(), LOOKS * table.classes.len());
        let mut descent = Descent { table, choice, fallback, rank, uses, cost: 0, ranked: true, looks };
        descent.ranked = descent.choice.iter().all(|(&class, &number)| descent.is_ranked(class, number));
        descent.acquire(vec![root]);
        descent
    }

    fn is_ranked(&self, class: Id, number: usize) -> bool {
        let rank = |id: &Id| self.rank.get(id);
        let needs = &self.table.classes[&class][number].operands;
        needs.iter().all(|o| rank(o).is_some() && rank(o) < rank(&class))
    }

    /// True if a class that was just changed needs itself, or there are no looks left to tell.
    fn may_close_a_cycle(&mut self, class: Id) -> bool {
        if self.ranked && self.is_ranked(class, self.choice[&class]) {
            return false;
        }
        if self.looks == 0 {
            return true;
        }
        // Stale choices of classes that come into use again may close a cycle anywhere below.
        let order = self.table.order(class, &self.choice);
        self.looks = self.looks.saturating_sub(order.as_ref().map_or(self.uses.len(), Vec::len));
        self.ranked &= order.is_none();
        order.is_none()
    }

    fn run(mut self) -> Choice {
        for _ in 0..MAX_SWEEPS {
            let classes: Vec<Id> = self.uses.keys().copied().collect();
            let improved = classes.into_iter().filter(|&class| self.improve(class)).count();
            if improved == 0 {
                break;
            }
        }
        self.choice
    }

    /// Takes another candidate of a class if that is cheaper.
    fn improve(&mut self, class: Id) -> bool {
        let mut improved = false;
        for number in 0..self.table.classes[&class].len() {
            let old = self.choice[&class];
            if self.uses.contains_key(&class) && number != old && self.may_pay(class, old, number) {
                let before = self.cost;
                self.switch(class, number);
                if self.cost < before && !self.may_close_a_cycle(class) {
                    improved = true;
                } else {
                    self.switch(class, old);
                }
            }
        }
        improved
    }

    /// False if a candidate costs no less and needs no less.
    fn may_pay(&self, class: Id, old: usize, new: usize) -> bool {
        let (old, new) = (&self.table.classes[&class][old], &self.table.classes[&class][new]);
        let chosen =
            new.operands.iter().all(|o| self.choice.contains_key(o) || self.fallback.contains_key(o));
        let needs_all = old.operands.iter().all(|o| new.operands.contains(o));
        chosen && (new.cost < old.cost || !needs_all)
    }

    fn switch(&mut self, class: Id, number: usize) {
        let old = self.choice[&class];
        let candidates = &self.table.classes[&class];
        self.cost = self.cost.saturating_add(candidates[number].cost).saturating_sub(candidates[old].cost);
        self.choice.insert(class, number);
        self.acquire(candidates[number].operands.clone());
        self.release(candidates[old].operands.clone());
    }

    fn acquire(&mut self, mut stack: Vec<Id>) {
        while let Some(class) = stack.pop() {
            let uses = self.uses.entry(class).or_insert(0);
            *uses += 1;
            if *uses == 1 {
                let number = *self.choice.entry(class).or_insert_with(|| self.fallback[&class]);
                let candidate = &self.table.classes[&class][number];
                self.cost = self.cost.saturating_add(candidate.cost);
                stack.extend(&candidate.operands);
            }
        }
    }

    fn release(&mut self, mut stack: Vec<Id>) {
        while let Some(class) = stack.pop() {
            let uses = self.uses.get_mut(&class).expect("what is released was acquired");
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&class);
                let candidate = &self.table.classes[&class][self.choice[&class]];
                self.cost = self.cost.saturating_sub(candidate.cost);
                stack.extend(&candidate.operands);
            }
        }
    }
}
