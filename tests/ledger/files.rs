//! `tests/vectors/ledger`: read always, written only where a vector is missing.

use serde_json::Value;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ledger").join(format!("{name}.json"))
}

/// A file of vectors.
pub fn load(name: &str) -> Value {
    let path = path(name);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// The vectors of a file that is a list of them.
pub fn vectors(name: &str) -> Vec<Value> {
    let Value::Array(vectors) = load(name) else { panic!("{name} is no list") };
    assert!(!vectors.is_empty());
    vectors
}

/// Writes a file that does not exist; one that does stays as it is.
pub fn write_missing(name: &str, value: &Value) {
    let path = path(name);
    if !path.exists() {
        std::fs::write(path, serde_json::to_string_pretty(value).unwrap() + "\n").unwrap();
    }
}

/// Adds the vectors whose `comment` a list does not have yet.
pub fn add_missing(name: &str, vectors: impl IntoIterator<Item = Value>) {
    let mut list = if path(name).exists() { self::vectors(name) } else { Vec::new() };
    let before = list.len();
    for vector in vectors {
        if !list.iter().any(|old| old["comment"] == vector["comment"]) {
            list.push(vector);
        }
    }
    if list.len() > before {
        std::fs::write(path(name), serde_json::to_string_pretty(&list).unwrap() + "\n").unwrap();
    }
}
