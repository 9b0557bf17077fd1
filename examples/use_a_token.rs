//! A program that opens one of its tokens by itself, without the command line:
//!
//! ```text
//! cargo run --example use_a_token -- prod/db
//! ```
//!
//! Store and devices are those of the user who runs it. It says how long the token is, not what it is.
#![allow(clippy::print_stdout)]

use std::error::Error;
use strongroom::ledger::Name;
use strongroom::vault::{Setup, Vault};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("which token? give its name")?;
    let name = Name::parse(&name)?;

    // Verifies what is new in the store. No device is reached yet.
    let mut vault = Vault::open(Setup::of_this_machine()?)?;
    // Logs in to the device, which may ask for its PIN.
    let token = vault.get(&name, None)?;
    for notice in vault.take_notices() {
        println!("note: {notice}");
    }

    // `expose` is where the secret leaves its box; the box is wiped when it is dropped.
    println!("{name} has {} bytes", token.expose().len());
    Ok(())
}
