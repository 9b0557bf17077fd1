//! Statements that are each allowed and together too much for a reader's memory.

use strongroom::ledger::body::Body;
use test_support::forged_batch::{Draft, put, token};
use test_support::test_store::TestStore;

#[test]
fn a_batch_larger_than_memory_should_hold() {
    let test_store = TestStore::populated();
    let vault = test_store.client("writer", &[&test_store.writer]).unwrap();
    let bodies = (0..=255).map(|i| {
        let mut put = put(token(i), &format!("w/{i}"), 1, &[i], &[&test_store.opener]);
        put.description = "x".repeat(65_535 - 400);
        Body::Put(Box::new(put))
    });
    let mut bodies: Vec<_> = bodies.collect();
    bodies.extend(bodies.clone());
    test_store.plant(&Draft::on(&vault, &test_store.writer, bodies).sign());
    test_store.refused("larger than a batch can be");
}
