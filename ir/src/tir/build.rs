//! Building scalar expressions: operators and functions that fold what is constant.
//!
//! Folding is exact: constants combine by the rules of [`crate::scalar`], `x + 0`,
//! `x * 1` and the like vanish for integers only.

use std::ops;

use super::ir::{Expr, ExprKind};
use crate::scalar::{self, BinaryOp, CmpOp, Scalar, UnaryOp};
use crate::types::DType;

impl Expr {
    /// The constant, if it is one.
    pub fn as_const(&self) -> Option<Scalar> {
        match self.kind() {
            ExprKind::Const(s) => Some(*s),
            _ => None,
        }
    }

    /// The number `value` in a dtype.
    pub fn float(value: f64, dtype: DType) -> Expr {
        Expr::constant(Scalar::from_f64(dtype, value))
    }

    /// `op(self)`.
    pub fn unary(self, op: UnaryOp) -> Expr {
        let dtype = match op {
            UnaryOp::IsNan | UnaryOp::IsInf | UnaryOp::IsFinite => DType::Bool,
            _ => self.dtype(),
        };
        match self.as_const() {
            Some(a) => Expr::constant(scalar::unary(op, a)),
            None => Expr::new(ExprKind::Unary(op, self), dtype),
        }
    }

    /// `op(self, rhs)`; both must have one dtype.
    pub fn binary(self, op: BinaryOp, rhs: Expr) -> Expr {
        debug_assert_eq!(self.dtype(), rhs.dtype(), "{op:?} of two dtypes");
        let dtype = self.dtype();
        if let (Some(a), Some(b)) = (self.as_const(), rhs.as_const()) {
            return Expr::constant(scalar::binary(op, a, b));
        }
        match (op, self.as_int(), rhs.as_int()) {
            (BinaryOp::Add, Some(0), _) | (BinaryOp::Mul, Some(1), _) => return rhs,
            (BinaryOp::Add | BinaryOp::Sub, _, Some(0))
            | (BinaryOp::Mul | BinaryOp::Div | BinaryOp::FloorDiv, _, Some(1)) => return self,
            (BinaryOp::Mul, Some(0), _) => return self,
            (BinaryOp::Mul, _, Some(0)) => return rhs,
            (BinaryOp::Mod | BinaryOp::FloorMod, _, Some(1)) => {
                return Expr::constant(Scalar::from_i64(dtype, 0));
            }
            _ => {}
        }
        Expr::new(ExprKind::Binary(op, self, rhs), dtype)
    }

    /// The comparison of two expressions of one dtype.
    pub fn cmp(self, op: CmpOp, rhs: Expr) -> Expr {
        debug_assert_eq!(self.dtype(), rhs.dtype(), "{op:?} of two dtypes");
        match (self.as_const(), rhs.as_const()) {
            (Some(a), Some(b)) => Expr::constant(scalar::compare(op, a, b)),
            _ => Expr::new(ExprKind::Cmp(op, self, rhs), DType::Bool),
        }
    }

    /// `self < rhs`.
    pub fn lt(self, rhs: impl Into<Expr>) -> Expr {
        self.cmp(CmpOp::Lt, rhs.into())
    }

    /// `self >= rhs`.
    pub fn ge(self, rhs: impl Into<Expr>) -> Expr {
        self.cmp(CmpOp::Ge, rhs.into())
    }

    /// `self == rhs`.
    pub fn equal(self, rhs: impl Into<Expr>) -> Expr {
        self.cmp(CmpOp::Eq, rhs.into())
    }

    /// The smaller of two.
    pub fn min(self, rhs: impl Into<Expr>) -> Expr {
        self.binary(BinaryOp::Min, rhs.into())
    }

    /// The larger of two.
    pub fn max(self, rhs: impl Into<Expr>) -> Expr {
        self.binary(BinaryOp::Max, rhs.into())
    }

    /// Division rounded down.
    pub fn floor_div(self, rhs: impl Into<Expr>) -> Expr {
        self.binary(BinaryOp::FloorDiv, rhs.into())
    }

    /// Remainder with the sign of the divisor.
    pub fn floor_mod(self, rhs: impl Into<Expr>) -> Expr {
        self.binary(BinaryOp::FloorMod, rhs.into())
    }

    /// Conjunction of two bools.
    pub fn and(self, rhs: Expr) -> Expr {
        match (self.as_int(), rhs.as_int()) {
            (Some(0), _) | (_, Some(1)) => self,
            (Some(_), _) | (_, Some(0)) => rhs,
            _ => self.binary(BinaryOp::And, rhs),
        }
    }

    /// `if self then a else b`; `self` is a bool, and only the chosen side is evaluated.
    pub fn select(self, a: Expr, b: Expr) -> Expr {
        debug_assert_eq!(a.dtype(), b.dtype(), "select of two dtypes");
        match self.as_int() {
            Some(0) => b,
            Some(_) => a,
            None => {
                let dtype = a.dtype();
                Expr::new(ExprKind::Select(self, a, b), dtype)
            }
        }
    }

    /// `self * b + c`, rounded once.
    pub fn fma(self, b: Expr, c: Expr) -> Expr {
        let dtype = self.dtype();
        Expr::new(ExprKind::Fma(self, b, c), dtype)
    }

    /// Conversion to a dtype; nothing if it has it.
    pub fn cast(self, to: DType) -> Expr {
        if self.dtype() == to {
            return self;
        }
        match self.as_const() {
            Some(a) => Expr::constant(scalar::cast(a, to)),
            None => Expr::new(ExprKind::Cast(self), to),
        }
    }
}

// A literal without a suffix is an `i32` where several conversions would do.
impl From<i32> for Expr {
    fn from(value: i32) -> Expr {
        Expr::int(i64::from(value))
    }
}

impl From<i64> for Expr {
    fn from(value: i64) -> Expr {
        Expr::int(value)
    }
}

impl From<usize> for Expr {
    fn from(value: usize) -> Expr {
        Expr::int(value as i64)
    }
}

impl From<&Expr> for Expr {
    fn from(value: &Expr) -> Expr {
        value.clone()
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident),*) => { $(
        impl<R: Into<Expr>> ops::$trait<R> for Expr {
            type Output = Expr;
            fn $method(self, rhs: R) -> Expr {
                self.binary(BinaryOp::$op, rhs.into())
            }
        }
        impl<R: Into<Expr>> ops::$trait<R> for &Expr {
            type Output = Expr;
            fn $method(self, rhs: R) -> Expr {
                self.clone().binary(BinaryOp::$op, rhs.into())
            }
        }
    )* };
}
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div);

impl ops::Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        self.unary(UnaryOp::Neg)
    }
}
