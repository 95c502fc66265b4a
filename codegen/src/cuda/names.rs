//! Names that a kernel's source may have.

use fermata_ir::tir::names::Unique;

/// Words of C++, and what the kernels around a tile function call their own.
const WORDS: &[&str] = &[
    "alignas",
    "alignof",
    "asm",
    "auto",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "const",
    "constexpr",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "nullptr",
    "operator",
    "private",
    "protected",
    "public",
    "register",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "while",
    "tile",
    "threadIdx",
    "blockIdx",
    "blockDim",
    "gridDim",
    "warpSize",
    "word",
    "counters",
    "epoch",
    "first_slot",
    "claimed",
    "slot",
    "leader",
    "ran",
    "turn",
    "atomicAdd",
    "signbit",
    "isnan",
    "isinf",
    "isfinite",
];

/// Functions of the C library, each also with `f` behind it.
const FUNCTIONS: &[&str] = &[
    "abs", "fabs", "floor", "ceil", "rint", "trunc", "sqrt", "exp", "log", "log2", "log10", "sin", "cos",
    "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "fma", "fmod",
    "pow", "atan2", "copysign", "min", "max", "j0", "j1", "jn", "y0", "y1", "yn",
];

/// Gives out names that mean nothing in a source yet.
#[derive(Debug)]
pub struct Names(Unique);

impl Names {
    /// What has a meaning is taken.
    pub fn new() -> Names {
        let mut names = Unique::default();
        for word in WORDS.iter().chain(FUNCTIONS) {
            names.take(word);
        }
        for function in FUNCTIONS {
            names.take(&format!("{function}f"));
        }
        Names(names)
    }

    /// The name itself if it is free, else one like it. Device functions keep their prefix alone.
    pub fn take(&mut self, hint: &str) -> String {
        let reserved = hint.starts_with("fm_") || hint.starts_with("__");
        if reserved { self.0.take(&format!("v{hint}")) } else { self.0.take(hint) }
    }

    /// The name of a kernel; those that are made from it are taken, too.
    pub fn take_kernel(&mut self, hint: &str) -> String {
        let name = self.take(hint);
        for suffix in ["_tile", "_preemptible"] {
            self.0.take(&format!("{name}{suffix}"));
        }
        name
    }
}
