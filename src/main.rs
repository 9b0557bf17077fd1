//! The `strongroom` command.

mod cli;

use std::alloc::System;
use std::process::ExitCode;
use zeroizing_alloc::ZeroAlloc;

/// Wipes every block as it is freed. What this program calls secret wipes itself; this is for the libraries underneath that
/// do not, such as the buffer in which `age` gathers 64 KiB of plaintext.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    cli::main()
}
