//! Rotation: policies, and what is due by them.

pub mod due;
pub mod policy;
