//! The Rust that pages show compiles: its lines are those of the function below.

use crate::links::root;
use std::error::Error;
use strongroom::ledger::Name;
use strongroom::vault::{Setup, Vault};

fn connect(_password: &[u8]) {}

fn as_pages_show() -> Result<(), Box<dyn Error>> {
    let mut vault = Vault::open(Setup::of_this_machine()?)?;
    let token = vault.get(&Name::parse("prod/db")?, None)?;
    connect(token.value.expose());
    assert!(token.version > 0);
    Ok(())
}

#[test]
fn what_pages_show_compiles() {
    let _compiled: fn() -> Result<(), Box<dyn Error>> = as_pages_show;
    let mut lines = 0;
    for page in ["README.md", "docs/reference/build.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let blocks = text.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        for line in blocks.flat_map(str::lines).filter(|line| !line.is_empty()) {
            lines += 1;
            let code = line.split("  //").next().unwrap().trim();
            assert!(include_str!("rust.rs").contains(code), "{page}: {code}");
        }
    }
    assert!(lines > 7);
}
