//! How many calls lead from a command to its device.

use crate::machines::{Place, name, put};
use std::backtrace::Backtrace;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use strongroom::vault::{TokenBackend, TokenRef};
use test_support::soft_device::SoftDevice;

/// The library's functions on a stack, outermost first, each with its file. A function and its closures count once.
fn functions(stack: &Backtrace) -> Vec<(String, String)> {
    let stack = stack.to_string();
    let mut functions = Vec::new();
    let mut lines = stack.lines().map(str::trim_start).peekable();
    while let Some(line) = lines.next() {
        let place = lines.peek().and_then(|place| place.strip_prefix("at ./src/"));
        let (Some((_, function)), Some(place)) = (line.split_once(": "), place) else { continue };
        let function = function.split("::{{closure}}").next().unwrap();
        // An inlined function has its type arguments behind it, and no path before it.
        let function = if function.ends_with('>') { function.split('<').next().unwrap() } else { function };
        let function = function.rsplit("::").next().unwrap();
        if !function.starts_with('{') {
            functions.push((place.split(':').next().unwrap().to_owned(), function.to_owned()));
        }
    }
    let mut known = HashSet::new();
    functions.reverse();
    functions.retain(|function| known.insert(function.clone()));
    functions
}

/// docs/explanation/architecture.md lists them. In the command they are two more: the one that chooses between vault and agent,
/// and the body of the device's thread, where this device has none.
#[test]
#[cfg_attr(not(debug_assertions), ignore = "an optimised build has other stacks")]
fn six_functions_open_a_token() {
    let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let shared = Arc::clone(&seen);
    let device = SoftDevice::named("one").opening_after(move || {
        *shared.lock().unwrap() = functions(&Backtrace::force_capture());
        Ok(())
    });
    let (_place, mut vault) = Place::of(&device);
    put(&mut vault, "a", "token");
    let opened = vault.open_all(&[TokenRef { name: name("a"), version: None }]);
    assert_eq!(opened[0].as_ref().unwrap().expose(), b"token");
    let expected = [
        ("vault/token_backend.rs", "open_all"),
        ("vault/tokens/open.rs", "open_on_devices"),
        ("device/worker.rs", "call"),
        ("device/worker.rs", "run"),
        ("vault/tokens/lookup.rs", "open_on"),
        ("seal/stanzas.rs", "unseal"),
    ];
    assert_eq!(*seen.lock().unwrap(), expected.map(|(file, name)| (file.to_owned(), name.to_owned())));
}
