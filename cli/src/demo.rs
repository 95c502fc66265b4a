//! `fermata demo`.
use crate::args::DemoArgs;
use crate::{Driver, Failure, Streams};
/// `fermata demo`.
pub(crate) fn command(_: &Driver, _: &DemoArgs, _: &mut Streams<'_>) -> Result<i32, Failure> {
    Err(Failure::usage("not yet"))
}
