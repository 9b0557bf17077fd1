//! Tokens: store, open, list, change.

mod dotenv;
pub mod get;
pub mod import;
pub mod list;
pub mod put;
pub mod run;
pub mod show;
pub mod state;
