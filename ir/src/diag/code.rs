//! The numbers of diagnostics, and what `fermata explain` says of each.
//!
//! E01xx text, E02xx types, E03xx verifier, E04xx evaluation, E05xx importers and weights,
//! E06xx passes, E07xx lowering, TIR and code, E08xx running, E09xx command line and faults.

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
        "The text has something that the Relay format does not know at this place: a stray character, a string or \
         comment that does not end, or a literal that is incomplete or too large for its dtype. Floats carry a suffix \
         (`1.5f`, `2f16`, `0.1f64`), and so do integers other than int32 (`1i8`, `2u64`).";
    TEXT_SYNTAX = 102, "a syntax error",
        "The tokens do not form a program; the message says what could stand at the caret. A module begins with \
         `#[version = \"0.0.5\"]`, locals begin with `%`, globals with `@`, and `/` is a character of names, so that a \
         division needs blanks around it.";
    TEXT_NAME = 103, "an unknown or duplicate name",
        "A variable, global, type, operator or attribute is not defined here, or is defined twice. A graph number \
         (`%0`) is known in its own function only, and what one branch binds the other does not see. `fermata list \
         ops` names the operators.";
    TEXT_LIMIT = 104, "a limit of the reader",
        "The text nests too deeply, is too large, or names a tensor that no machine holds. The limits keep hostile \
         input from exhausting memory; bind deep expressions to `%n` or with `let` instead of nesting them.";
    TYPE_MISMATCH = 201, "types do not fit",
        "Two types that must be equal differ, or an operator refuses the types of its arguments. Sizes broadcast as in \
         numpy: aligned at the last axis, equal or 1. Dtypes are never converted in silence; write \
         `cast(%x, dtype=\"float32\")`.";
    TYPE_UNKNOWN = 202, "a type cannot be inferred",
        "Nothing in the program determines this type. Annotate the variable (`%x: Tensor[(2, 3), float32]`) or the \
         result of the function (`-> float32`).";
    OP_ARGS = 203, "an operator called wrongly",
        "The number of arguments does not fit the operator, or an attribute is missing, unknown, of another kind or \
         out of range. Attributes follow the positional arguments: `squeeze(%x, axis=[0])`.";
    VERIFY = 301, "the program breaks a rule of the language",
        "The message names the rule (R1, R2, ..); the documentation of `fermata_ir::verify` has them all. Text that is \
         read breaks a rule rarely; if a pass broke it, that is a fault of the pass, and the note names the pass.";
    EVAL = 401, "evaluation failed",
        "The program is well typed, but a value made it impossible to go on: a shape that does not fit, a match without \
         an arm for a value, a recursion without end.";
    IMPORT_FORMAT = 501, "a model file is malformed",
        "The file is truncated, has wrong lengths, contradicts itself, or is no model at all. What a file holds is told \
         by its content, not by its name; export or download it again.";
    IMPORT_UNSUPPORTED = 502, "a model uses something that is not supported",
        "The message lists every operator of the model that is not known here, with the opset that asks for it and the \
         first node that uses it, so that one look shows all. `fermata list onnx` names those that are known.";
    WEIGHTS = 503, "a file of arrays does not fit",
        "An npy, npz or safetensors file is malformed, or lacks a tensor that the program refers to, or has it in \
         another shape. Give the weights of a text with `--weights FILE.safetensors`.";
    PASS = 601, "a pass or pipeline is wrong",
        "A pass, an option or its value is unknown, or a pass cannot run on the form that an earlier one left. `fermata \
         list passes` names the passes and their options.";
    DIM_UNBOUND = 602, "a dimension is not bound",
        "Compiled code has fixed sizes, so compiling needs every dimension. Give the flags that the message prints: \
         `--dim NAME=N` binds a dimension by name everywhere, `--shape INPUT=1x3x224x224` gives an input its shape. \
         `fermata run` takes shapes from the inputs that are given.";
    LOWER = 701, "an expression cannot be lowered",
        "The operator has no Tensor Expression at these types (its output shape depends on values, say), or the \
         construct has no code yet. `fermata list ops` says why for each operator; `fermata run --device interp` runs \
         the program on the evaluator.";
    TIR = 702, "a TIR program is wrong",
        "The script does not parse, or the program breaks a rule of the loop-level language: an access out of bounds, a \
         region that is not declared, tiles that write the same place.";
    CODEGEN = 703, "code generation failed",
        "The back end could not make code for a kernel, or this machine's processor has no back end. The program is not \
         at fault: `fermata run --device interp` runs it on the evaluator.";
    ARTIFACT = 704, "an artifact is malformed",
        "The artifact was made by another major version or is damaged, or a kernel in it cannot be proved to stay \
         inside its buffers. Compile the model again.";
    CHECKPOINT_BOUND = 705, "a kernel does not keep the checkpoint bound",
        "`--checkpoint-bound` asks for kernels that look at the control word at least so often, and by the estimate of \
         the target's cost model no tile of the kernels that the message names is short enough: the notes say which \
         axis would have to be split. The bound is a wish: such kernels are certified as not keeping it, and \
         `fermata inspect --kernels` shows that. With `--checkpoint-bound=20us,strict` it is a demand, and this an \
         error. A longer bound, or `fermata inspect --kernels --measure`, which holds the estimates against this \
         machine, tells what is possible.";
    RUN = 801, "running failed",
        "An input does not fit the model's parameters, or calls nest without end. `fermata inspect` prints the names \
         and types of the inputs.";
    USAGE = 901, "called wrongly",
        "A flag, value or file name of the command line is wrong. The exit code is 2.";
    INTERNAL = 902, "a fault of this program",
        "Fermata panicked, which it never should. The exit code is 101, and the message names a file that holds the \
         command line and what is known of the fault; please report it.";
    EXPECTED = 903, "diagnostics are not as expected",
        "`fermata opt --verify-diagnostics` holds the errors of a text against its comments `// expected-error {{..}}`: \
         one did not come, or one came that no comment names. `@+1` and `@-1` mean the line after and before.";
    CHECK = 904, "a check that leads nowhere",
        "`fermata bisect` looks for the rewrite that makes a check fail, so the check must hold before the passes and \
         fail after them; `fermata reduce` needs a check that fails. A check exits with 0 if the program is good, with \
         125 if it cannot say, and with another code up to 127 if it is bad; a larger code ends the search.";
}
