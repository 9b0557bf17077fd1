//! Other programs: their credential helpers, and files for them.

pub mod age;
pub mod credential;
pub mod inject;
pub mod link;
