//! Rotation: policies, what is due by them, and rotating it.

pub mod due;
pub mod policy;
pub mod rotate;
