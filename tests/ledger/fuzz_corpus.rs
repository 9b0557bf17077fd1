//! The fuzz targets on stable Rust: over their corpora, and a bounded number of mutations of each file.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::path::Path;
use test_support::fuzz_targets::TARGETS;

/// Mutations of each file.
const MUTATIONS: usize = 200;

#[test]
fn every_target_survives_its_corpus_and_its_neighbourhood() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "no corpus for {name}");
        let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        for (index, file) in files.iter().enumerate() {
            target(file);
            for _ in 0..MUTATIONS {
                target(&mutated(file, &files[(index + 1) % files.len()], &mut rng));
            }
        }
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One to four changes: a bit, a byte, a piece left out, doubled, or taken from another file.
fn mutated(file: &[u8], other: &[u8], rng: &mut TestRng) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=rng.next_u32() % 4 {
        let at = below(rng, bytes.len());
        let end = (at + below(rng, 16)).min(bytes.len());
        match rng.next_u32() % 5 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (rng.next_u32() % 8),
            1 if at < bytes.len() => bytes[at] = rng.next_u32() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = below(rng, other.len());
                let piece = other[from..(from + below(rng, 16)).min(other.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

fn below(rng: &mut TestRng, bound: usize) -> usize {
    if bound == 0 { 0 } else { rng.next_u32() as usize % bound }
}
