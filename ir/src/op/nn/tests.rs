//! What these operators make of small tensors, by numpy's account.

mod products;
mod rows;
