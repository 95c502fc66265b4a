//! What these operators make of small tensors, by numpy's account.

mod create;
mod einsum;
mod join;
mod order;
mod shape;
mod slice;
