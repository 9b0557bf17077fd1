//! The agent, from outside: over its socket, with devices in software that fail on command, and as the real program.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::expect_used)]

#[path = "../cli/home.rs"]
#[allow(dead_code)]
mod home;
#[path = "../attacks/pen.rs"]
#[allow(dead_code)]
mod pen;
#[path = "../common/soft_device.rs"]
mod soft_device;
#[path = "../common/softhsm.rs"]
mod softhsm;
#[path = "../common/swtpm.rs"]
mod swtpm;
#[path = "../attacks/world.rs"]
#[allow(dead_code)]
mod world;

mod anchors;
mod credentials;
mod daemon;
mod faults;
mod faulty;
mod grants;
mod http;
mod kept;
mod peers;
mod protocol;
mod served;
mod systemd;
