//! What these operators make of small tensors, by numpy's account.

mod moves;
mod products;
mod rows;
