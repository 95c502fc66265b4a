//! Passes over tensor-level programs, a file a pass.

pub mod alter_op_layout;
pub mod canonicalize_ops;
pub mod common_subexpr;
pub mod dead_code;
pub mod fold_constant;
pub mod fold_scale_axis;
pub mod infer_type;
pub mod lambda_lift;
pub mod normal_form;
pub mod quantize;
pub mod remove_unused_functions;
pub mod rewrite;
pub mod simplify_expr;
pub mod simplify_inference;
