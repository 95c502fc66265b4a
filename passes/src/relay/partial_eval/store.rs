//! What reference cells hold, as far as that is known.

use super::value::Value;

/// The cells, and what they held before they were written: a branch that is not known is undone.
#[derive(Default)]
pub struct Store {
    cells: Vec<Option<Value>>,
    /// Cells whose content may be known.
    known: Vec<usize>,
    journal: Vec<(usize, Option<Value>)>,
}

impl Store {
    /// A new cell.
    pub fn cell(&mut self, content: Value) -> usize {
        self.cells.push(None);
        let cell = self.cells.len() - 1;
        self.write(cell, Some(content));
        cell
    }

    /// The content of a cell, if it is known.
    pub fn read(&self, cell: usize) -> Option<Value> {
        self.cells[cell]
    }

    /// Notes what a cell holds now; `None` is anything.
    pub fn write(&mut self, cell: usize, content: Option<Value>) {
        self.journal.push((cell, self.cells[cell]));
        self.cells[cell] = content;
        if content.is_some() {
            self.known.push(cell);
        }
    }

    /// Something ran that may have written any cell.
    pub fn forget(&mut self) {
        for cell in std::mem::take(&mut self.known) {
            if self.cells[cell].is_some() {
                self.write(cell, None);
            }
        }
    }

    /// Where the journal stands.
    pub fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Undoes all writes since a mark, and gives the cells that were written.
    pub fn undo(&mut self, mark: usize) -> Vec<usize> {
        let mut written = Vec::new();
        for (cell, content) in self.journal.split_off(mark).into_iter().rev() {
            self.cells[cell] = content;
            if content.is_some() {
                self.known.push(cell);
            }
            written.push(cell);
        }
        written
    }
}
