//! Passes over tensor-level programs, a file a pass.

pub mod alter_op_layout;
pub mod canonicalize_cast;
pub mod canonicalize_ops;
pub mod combine_branches;
pub mod common_subexpr;
pub mod dead_code;
pub mod defuse_ops;
pub mod div_to_mul;
pub mod dynamic_to_static;
pub mod eta_expand;
pub mod fast_math;
pub mod fold_constant;
pub mod fold_scale_axis;
pub mod gradient;
pub mod infer_type;
pub mod inline;
pub mod label_ops;
pub mod lambda_lift;
pub mod normal_form;
pub mod quantize;
pub mod remove_unused_functions;
pub mod rewrite;
pub mod simplify_expr;
pub mod simplify_inference;
pub mod split_args;
pub mod to_mixed_precision;
