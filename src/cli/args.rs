//! Arguments: how they are described to the parser, and how names, labels and times are read.

mod lazy_args;
pub mod names;
pub mod new_keys;
pub mod time;

pub use lazy_args::LazyArgs;
use strongroom::{Error, Kind};

/// An error about an option's value. It does not repeat the value.
pub fn unusable_value(option: &str, why: impl Into<String>) -> Error {
    Error::new(Kind::Usage, format!("use the value of {option}"), why)
}
