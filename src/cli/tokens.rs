//! Tokens: store, open, list, change.

pub mod check;
mod child;
pub mod destroy;
mod dotenv;
pub mod edit;
pub mod env;
pub mod get;
pub mod import;
pub mod list;
mod masked;
pub mod put;
pub mod rename;
pub mod run;
pub mod show;
pub mod state;
mod supervised;
pub mod variables;
pub mod watch;
