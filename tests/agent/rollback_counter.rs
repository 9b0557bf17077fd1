//! A store that is anchored to a counter: what the agent's devices counted, it has to hold.

use crate::agent_in_process::{Served, own_uid};
use std::path::Path;
use strongroom::agent::AgentOwner;
use test_support::test_store::Actor;

fn stands(counter: &Path) -> u64 {
    std::fs::read_to_string(counter).unwrap().parse().unwrap()
}

#[test]
fn a_store_that_was_set_back_opens_nothing() {
    let tpm = tempfile::tempdir().unwrap();
    let device = Actor::named("admin").device.counting_in(tpm.path());
    let connected = device.clone();
    let served = Served::new(AgentOwner::User(own_uid()), |options| {
        options.devices[0].connect = std::sync::Arc::new(move || Ok(Box::new(connected.clone())));
    });
    let counting = Actor { device, ..served.test_store.admin.clone() };
    let counter = served.test_store.client("another", &[&counting]).unwrap().anchor("admin", false).unwrap();
    let counter = tpm.path().join(counter.index.to_string());
    let before = stands(&counter);

    // The counter knows of a change that this store does not hold.
    std::fs::write(&counter, (before + 1).to_string()).unwrap();
    let (_, kind, words) = served.get("/v1/values/prod/db").problem();
    assert!(kind == "rolled-back" && words.contains("the store was set back"), "{kind}: {words}");
    let (_, kind, _) = served.ask("PUT", "/v1/values/prod/db", b"three").problem();
    assert_eq!(kind, "rolled-back");

    // The right store is back: it opens, is written to, and what guards is counted by the agent itself.
    std::fs::write(&counter, before.to_string()).unwrap();
    assert_eq!(served.get("/v1/values/prod/db").text(), "two");
    assert_eq!(served.ask("PUT", "/v1/values/prod/db", b"three").status, 200);
    assert_eq!(served.get("/v1/values/prod/db").text(), "three");
    assert_eq!(stands(&counter), before);
}
