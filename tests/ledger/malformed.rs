//! Bytes that nearly are a statement or a batch, and are refused: every twin of something valid.

use crate::fields::{bytes, text};
use crate::files::{add_missing, vectors};
use crate::item::{Item, head};
use crate::soft_devices::SoftDevice;
use crate::statements::{examples, full_put};
use batches::batches;
use serde_json::json;
use statements::statements;
use strongroom::ledger::body::Body;
use strongroom::ledger::{Hash, MAX_STATEMENT_BYTES, SignedBatch, Statement, StoreId};

mod batches;
mod statements;

#[test]
fn every_malformed_statement_is_refused_for_its_reason() {
    for vector in vectors("malformed-statements") {
        let error = Statement::decode(&bytes(&vector["bytes"])).expect_err(&text(&vector["comment"]));
        assert_eq!(error.0, vector["error"], "{}", vector["comment"]);
    }
}

#[test]
fn every_malformed_batch_is_refused_for_its_reason() {
    for vector in vectors("malformed-batches") {
        let error = SignedBatch::decode(&bytes(&vector["bytes"])).expect_err(&text(&vector["comment"]));
        assert_eq!(error.0, vector["error"], "{}", vector["comment"]);
    }
}

/// A statement that was cut off anywhere is none.
#[test]
fn a_statement_cut_short_is_refused() {
    for (comment, statement) in examples() {
        let encoded = statement.encode();
        for len in 0..encoded.len() {
            assert!(Statement::decode(&encoded[..len]).is_err(), "{comment}, {len} bytes");
        }
    }
}

#[test]
fn a_statement_has_at_most_1_mib() {
    let of = |len: usize| {
        let mut put = full_put();
        put.description = "x".repeat(len);
        let heads = |_: &_| Ok::<_, std::convert::Infallible>(Hash::ZERO);
        let author = SoftDevice::new(1, "any").id;
        let Ok(statement) = Statement::compose(StoreId([1; 32]), author, 0, Body::Put(Box::new(put)), heads);
        statement.encode()
    };
    let around = of(100_000).len() - 100_000;
    assert!(Statement::decode(&of(MAX_STATEMENT_BYTES - around)).is_ok());
    assert!(Statement::decode(&of(MAX_STATEMENT_BYTES - around + 1)).is_err());
}

/// What a few bytes claim must not be believed: neither memory nor stack follow a length or a depth.
#[test]
fn claims_of_size_and_depth_cost_nothing() {
    let start = std::time::Instant::now();
    let small =
        examples().into_iter().map(|(_, statement)| statement.encode()).filter(|bytes| bytes.len() < 1000);
    for encoded in small {
        let item = Item::parse(&encoded).unwrap();
        for path in paths(&item) {
            for major in [2, 3, 4] {
                for claim in [u64::MAX, 1 << 62, u64::from(u32::MAX), 65_000] {
                    let bomb = item.with(&path, |_| Item::Raw(head(major, claim))).encode();
                    assert!(Statement::decode(&bomb).is_err());
                }
            }
        }
    }
    let mut deep = vec![0x81; MAX_STATEMENT_BYTES];
    assert!(Statement::decode(&deep).is_err());
    deep.truncate(1024);
    assert!(SignedBatch::decode(&deep).is_err());
    let wide = [head(4, 65_000), vec![0x80; 65_000]].concat();
    assert!(Statement::decode(&wide).is_err());
    assert!(start.elapsed().as_secs() < 10);
}

/// The path of every element, the outermost first.
pub fn paths(item: &Item) -> Vec<Vec<usize>> {
    let mut found = vec![Vec::new()];
    if let Item::Array(items) = item {
        for (index, item) in items.iter().enumerate() {
            found.extend(paths(item).into_iter().map(|path| [vec![index], path].concat()));
        }
    }
    found
}

/// Writes the vectors that are missing. Those that exist stay as they are.
#[test]
#[ignore = "writes into tests/vectors"]
fn write_missing_vectors() {
    let shown = |comment: String, bytes: Vec<u8>, error: &str| json!({ "comment": comment, "bytes": hex::encode(bytes), "error": error });
    add_missing(
        "malformed-statements",
        statements().into_iter().map(|(comment, bytes)| {
            let error = Statement::decode(&bytes).expect_err(&comment);
            shown(comment, bytes, error.0)
        }),
    );
    add_missing(
        "malformed-batches",
        batches().into_iter().map(|(comment, bytes)| {
            let error = SignedBatch::decode(&bytes).expect_err(&comment);
            shown(comment, bytes, error.0)
        }),
    );
}

type Twin = (String, Vec<u8>);
