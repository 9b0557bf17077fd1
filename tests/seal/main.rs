//! Sealed tokens, against keys in software.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod forge;
mod interop;
mod keys;
mod refusals;
mod round_trip;
mod shares;
mod tampering;
mod vectors;
mod wiping;

/// The command's allocator: see `src/main.rs`.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);
