//! Statements that are each allowed and together too much for a reader's memory.

use crate::pen::{self, Draft};
use crate::world::World;
use strongroom::ledger::body::Body;

#[test]
fn a_batch_larger_than_memory_should_hold() {
    let world = World::new();
    let vault = world.client("writer", &[&world.writer]).unwrap();
    let bodies = (0..=255).map(|i| {
        let mut put = pen::put(pen::token(i), &format!("w/{i}"), 1, &[i], &[&world.opener]);
        put.description = "x".repeat(65_535 - 400);
        Body::Put(Box::new(put))
    });
    let mut bodies: Vec<_> = bodies.collect();
    bodies.extend(bodies.clone());
    world.plant(&Draft::on(&vault, &world.writer, bodies).sign());
    world.refused("larger than a batch can be");
}
