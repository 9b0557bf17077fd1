//! The agent, from outside: over its socket, with devices in software that fail on command, and as the real program.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::expect_used)]

mod access_log;
mod agent_in_process;
mod cache;
mod checkpoints;
mod client_identity;
mod confirmation;
mod credentials;
mod daemon;
mod device_failures;
mod failing_device;
mod grants;
mod hanging_store;
mod http;
mod journal;
mod postgres;
mod protocol;
mod rollback_counter;
mod rotation;
mod siege;
mod stop_and_reload;
mod systemd;
mod thresholds;
mod watch;
mod watchdog;
