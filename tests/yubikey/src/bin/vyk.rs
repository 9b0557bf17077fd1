//! A virtual YubiKey from the command line.
fn main() {}
