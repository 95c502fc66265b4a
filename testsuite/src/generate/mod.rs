//! Random programs: seeded, deterministic, well typed, over the whole op table.
//!
//! The generator knows no operator. It draws a row from the table, draws arguments from what
//! is in scope and attributes from the row's schema, and keeps the call if the row's `infer`
//! accepts it, so an operator that is new in the table is in the programs too. Around the calls
//! it makes constants, tuples, lets, ifs, closures, global functions and recursion, shares nodes,
//! and gives names that need quotes.
//!
//! All shapes are static; [`generalise`] gives one dimension a name. One seed gives one program,
//! on every machine.

mod agree;
mod attrs;
mod call;
mod rng;
mod scope;
mod shrink;
mod stable;
mod structure;
mod symbolic;
mod text;
mod values;

pub use agree::{Fault, On, Treatment, Verdict, check, evaluate};
pub use rng::Rng;
pub use shrink::shrink;
pub use symbolic::generalise;
pub use text::{as_case, round_trip};

use fermata_ir::expr::{ExprId, Function, Global, Module, VarId};
use fermata_ir::infer::infer_module;
use fermata_ir::op::{Op, OpTable, Purity};
use fermata_ir::tensor::Tensor;
use fermata_ir::types::{DType, TensorType, Type};

/// What programs may contain.
#[derive(Clone)]
pub struct Options {
    /// The operators to draw from.
    pub ops: Vec<Op>,
    /// The dtypes of parameters and constants.
    pub dtypes: Vec<DType>,
    /// The most dimensions of a parameter or constant.
    pub max_rank: usize,
    /// The most elements of any tensor.
    pub max_elements: usize,
    /// Whether there are ifs, closures and calls of functions.
    pub control_flow: bool,
    /// Whether inputs hold NaN, infinities and the ends of their ranges.
    pub special_values: bool,
    /// Whether names are ones that nobody would write.
    pub strange_names: bool,
}

/// Operators that programs do not call, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    ("searchsorted", "in a sequence that is not sorted a value has no place"),
    ("nn.conv1d_transpose", ZEROS),
    ("nn.conv2d_transpose", ZEROS),
    ("nn.conv3d_transpose", ZEROS),
];

const ZEROS: &str = "compiled, an infinite weight meets the zeros between elements and gives NaN";

impl Default for Options {
    fn default() -> Options {
        Options {
            ops: OpTable::standard().iter().filter(|op| may_occur(*op)).collect(),
            dtypes: DType::ALL.to_vec(),
            max_rank: 5,
            max_elements: 4096,
            control_flow: true,
            special_values: true,
            strange_names: true,
        }
    }
}

fn may_occur(op: Op) -> bool {
    op.purity == Purity::Pure && LEFT_OUT.iter().all(|(name, _)| *name != op.name)
}

/// A program and arguments for its `@main`.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program; inferred.
    pub module: Module,
    /// A tensor for each parameter of `@main`, in order.
    pub inputs: Vec<Tensor>,
}

/// A source of random programs.
pub struct Generator {
    rng: Rng,
    options: Options,
    module: Module,
    /// The parameters of `@main` made so far, and their values.
    params: Vec<VarId>,
    inputs: Vec<Tensor>,
    /// How many functions and branches enclose what is being made.
    depth: usize,
    /// Whether new parameters may be made here: not in a global function.
    in_main: bool,
    /// How many names were made.
    names: usize,
}

impl Generator {
    /// A generator of programs with everything in them.
    pub fn new(seed: u64) -> Generator {
        Generator::with_options(seed, Options::default())
    }

    /// A generator of programs as the options say.
    pub fn with_options(seed: u64, options: Options) -> Generator {
        Generator {
            rng: Rng::new(seed),
            options,
            module: Module::new(),
            params: Vec::new(),
            inputs: Vec::new(),
            depth: 0,
            in_main: true,
            names: 0,
        }
    }

    /// The next program, of about `size` operators.
    pub fn module(&mut self, size: usize) -> Program {
        self.module = Module::new();
        self.params.clear();
        self.inputs.clear();
        self.names = 0;
        let body = self.main_body(size);
        let params = std::mem::take(&mut self.params);
        let ret = self.module.types[body].clone();
        let func = Function { type_params: vec![], params, body, ret, attrs: self.function_attrs() };
        self.module.globals.push(Global { name: "main".into(), func: Some(func) });
        let mut module = std::mem::take(&mut self.module);
        infer_module(&mut module).expect("programs are typed as they are made");
        module.compact();
        Program { module, inputs: std::mem::take(&mut self.inputs) }
    }

    /// The type of an expression as a static tensor, if it is one.
    fn tensor(&self, id: ExprId) -> Option<&TensorType> {
        self.module.types[id].as_tensor()
    }

    /// A use of a new parameter of `@main` or, elsewhere, a new constant.
    fn leaf(&mut self, ty: &TensorType) -> ExprId {
        let shape = ty.static_shape().expect("generated types are static");
        let tensor = values::tensor(&mut self.rng, &shape, ty.dtype, self.options.special_values);
        if !self.in_main || self.rng.chance(1, 4) {
            return self.module.constant(tensor);
        }
        let name = self.name('x');
        let var = self.module.var(name, Type::from(ty.clone()));
        self.params.push(var);
        self.inputs.push(tensor);
        self.read(var)
    }

    /// A use of a variable.
    fn read(&mut self, var: VarId) -> ExprId {
        let id = self.module.add(fermata_ir::expr::Expr::Var(var));
        self.module.types[id] = self.module.vars[var].ty.clone();
        id
    }

    /// A random type of a parameter or constant.
    fn tensor_type(&mut self) -> TensorType {
        let dtype = *self.rng.pick(&self.options.dtypes);
        let shape = self.shape();
        TensorType::of(&shape, dtype)
    }

    fn shape(&mut self) -> Vec<usize> {
        let rank = *self.rng.pick(&[0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5]);
        let rank = rank.min(self.options.max_rank);
        let mut room = self.options.max_elements;
        let mut shape = Vec::new();
        for _ in 0..rank {
            let size = self.size().min(room.max(1));
            room /= size.max(1);
            shape.push(size);
        }
        shape
    }

    fn size(&mut self) -> usize {
        match self.rng.below(40) {
            0 => 0,
            1..8 => 1,
            8..30 => 2 + self.rng.below(4),
            30..38 => 5 + self.rng.below(12),
            _ => 17 + self.rng.below(50),
        }
    }
}

#[cfg(test)]
mod tests;
