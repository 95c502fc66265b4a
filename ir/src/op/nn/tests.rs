//! What these operators make of small tensors, by numpy's account.

mod losses;
mod moves;
mod products;
mod rows;
