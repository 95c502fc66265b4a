//! The numbers of diagnostics, and what `fermata explain` says of each.
//!
//! E01xx text, E02xx types, E03xx verifier, E04xx evaluation, E05xx importers and weights,
//! E06xx passes, E07xx lowering, TIR and code, E08xx running, E09xx command line.

use std::fmt;

/// A diagnostic's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What there is to say of a code.
pub struct CodeInfo {
    /// The number.
    pub code: Code,
    /// A title of a few words.
    pub title: &'static str,
    /// A paragraph: what causes it and how to mend it.
    pub explanation: &'static str,
}

/// Declares codes: a constant each and the table [`CODES`].
macro_rules! codes {
    ($($name:ident = $n:literal, $title:literal, $text:literal;)*) => {
        impl Code {
            $(#[doc = $title] pub const $name: Code = Code($n);)*
        }
        /// Every code, in order.
        pub const CODES: &[CodeInfo] = &[
            $(CodeInfo { code: Code::$name, title: $title, explanation: $text },)*
        ];
    };
}

codes! {
    TEXT_TOKEN = 101, "a character or literal that is no token",
        "The text has something that the Relay format does not know at this place.";
    TEXT_SYNTAX = 102, "a syntax error",
        "The tokens do not form a program; the message lists what could stand here.";
    TEXT_NAME = 103, "an unknown or duplicate name",
        "A variable, global, type, operator or attribute is not defined, or is defined twice.";
    TEXT_LIMIT = 104, "a limit of the reader",
        "The text nests too deeply or is too large; limits keep hostile input from exhausting memory.";
    TYPE_MISMATCH = 201, "types do not fit",
        "Two types that must be equal differ, or an operator refuses the types of its arguments.";
    TYPE_UNKNOWN = 202, "a type cannot be inferred",
        "Nothing in the program determines this type; annotate the variable or the function's result.";
    OP_ARGS = 203, "an operator called wrongly",
        "The number of arguments or an attribute does not fit the operator.";
    VERIFY = 301, "the program breaks a rule of the language",
        "The verifier's documentation lists the numbered rules.";
    EVAL = 401, "evaluation failed",
        "The program is well typed, but a value made it impossible to go on, such as an index or a shape.";
    IMPORT_FORMAT = 501, "a model file is malformed",
        "The file is truncated, has wrong lengths or contradicts itself.";
    IMPORT_UNSUPPORTED = 502, "a model uses something that is not supported",
        "All unsupported operators of the model are listed at once, with the opset that asks for them.";
    WEIGHTS = 503, "a weights file does not fit",
        "A safetensors or npz file is malformed, or lacks or mis-shapes a tensor.";
    PASS = 601, "a pass or pipeline is wrong",
        "A pass name, option or value is unknown, or a pass cannot run at this stage.";
    DIM_UNBOUND = 602, "a dimension is not bound",
        "Compiling needs every dimension; give the flags that the message prints.";
    LOWER = 701, "an expression cannot be lowered",
        "The operator has no Tensor Expression at these types, or the construct has no code yet.";
    TIR = 702, "a TIR program is wrong",
        "The TIR text does not parse or the program breaks a rule of the loop-level language.";
    CODEGEN = 703, "code generation failed",
        "The back end could not make code for a kernel.";
    ARTIFACT = 704, "an artifact is malformed",
        "The artifact was made by another major version, or is damaged; compile again.";
    RUN = 801, "running failed",
        "An input does not fit the model's parameters, or a kernel reported an error.";
    USAGE = 901, "called wrongly",
        "A flag, value or file name of the command line is wrong.";
}
