//! The pass table: every pass, once.

use crate::egraph;
use crate::fuse;
use crate::pass::PassDef;
use crate::relay;

/// Every built-in pass, in the order of the documentation.
pub const PASSES: &[&PassDef] = &[
    &relay::infer_type::PASS,
    &relay::fold_constant::PASS,
    &relay::remove_unused_functions::PASS,
    &relay::dead_code::PASS,
    &relay::common_subexpr::PASS,
    &relay::simplify_inference::PASS,
    &relay::simplify_expr::PASS,
    &relay::canonicalize_ops::PASS,
    &relay::fold_scale_axis::PASS,
    &relay::quantize::PASS,
    &relay::combine_parallel::PASS,
    &relay::alter_op_layout::PASS,
    &relay::lambda_lift::PASS,
    &relay::normal_form::TO_GRAPH,
    &relay::normal_form::TO_A_NORMAL,
    &relay::normal_form::TO_BASIC_BLOCK,
    &egraph::PASS,
    &relay::canonicalize_cast::PASS,
    &relay::combine_branches::CONV2D_PASS,
    &relay::combine_branches::BATCH_MATMUL_PASS,
    &relay::div_to_mul::PASS,
    &relay::fast_math::PASS,
    &relay::to_mixed_precision::PASS,
    &relay::dynamic_to_static::PASS,
    &relay::eta_expand::PASS,
    &relay::gradient::PASS,
    &relay::lazy_gradient_init::PASS,
    &relay::inline::PASS,
    &relay::partial_eval::PASS,
    &relay::split_args::PASS,
    &fuse::PASS,
    &relay::defuse_ops::PASS,
    &relay::label_ops::PASS,
    &relay::merge_composite::PASS,
    &relay::annotate_target::PASS,
    &relay::merge_compiler_regions::PASS,
    &relay::partition_graph::PASS,
    &relay::convert_layout::PASS,
    &relay::legalize::PASS,
    &relay::fake_quantization::PASS,
];

/// Passes by name: the built-in ones and a user's own.
#[derive(Clone)]
pub struct PassTable {
    passes: Vec<&'static PassDef>,
}

impl PassTable {
    /// The built-in passes.
    pub fn standard() -> PassTable {
        PassTable { passes: PASSES.to_vec() }
    }

    /// These passes and more.
    #[must_use]
    pub fn with(mut self, passes: &[&'static PassDef]) -> PassTable {
        self.passes.extend(passes);
        self
    }

    /// The pass of this name, ours or Relay's (`fold_constant`, `FoldConstant`).
    pub fn get(&self, name: &str) -> Option<&'static PassDef> {
        self.passes.iter().rev().find(|p| p.name == name || p.relay_name == name).copied()
    }

    /// Every pass.
    pub fn iter(&self) -> impl Iterator<Item = &'static PassDef> + '_ {
        self.passes.iter().copied()
    }
}
