//! The agent, from outside: over its socket, with devices in software that fail on command, and as the real program.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::expect_used)]

mod cache;
mod confirmation;
mod credentials;
mod daemon;
mod endings;
mod faults;
mod faulty;
mod grants;
mod hanging_store;
mod http;
mod journal;
mod peers;
mod protocol;
mod rollback_counter;
mod served;
mod siege;
mod systemd;
mod thresholds;
mod watchdog;
