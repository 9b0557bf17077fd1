//! What the tests, benchmarks and fuzz targets share: simulators, devices in software, stores in memory, conformance suites.
//!
//! A simulator that is missing skips the test, visibly; where `CI` is set it fails it.

pub mod authority;
pub mod cutting_proxy;
pub mod device_conformance;
pub mod ek_certificate;
pub mod eventually;
pub mod executable;
pub mod forged_batch;
#[cfg(feature = "agent")]
pub mod fuzz_targets;
pub mod home;
pub mod memory_store;
pub mod pcscd;
pub mod postgres;
pub mod process_pairs;
pub mod prompter;
pub mod resource_manager;
pub mod skip;
pub mod soft_device;
pub mod softhsm;
pub mod subprocess;
pub mod swtpm;
pub mod test_store;
pub mod tpm_relay;
pub mod yubikey;
