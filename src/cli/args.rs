//! Arguments: how they are described to the parser, and how names, labels and times are read.

mod lazy_args;
pub mod names;
pub mod new_keys;
pub mod time;

pub use lazy_args::LazyArgs;
