//! The requests that docs/reference/agent-api.md lists, held against the agent's OpenAPI document.

use crate::home::Home;
use crate::links::root;
use serde_json::Value;
use std::collections::BTreeSet;

const SCRIPT: &str = "
softhsm2-util --init-token --free --label demo --pin 123456 --so-pin 12345678 >/dev/null
strongroom init --quiet --device pkcs11:token=demo >/dev/null
strongroom agent --socket \"$PWD/agent.sock\" --credentials \"$PWD/credentials.sock\" >/dev/null &
curl -sSf --retry 20 --retry-all-errors --retry-delay 1 --unix-socket agent.sock http://x/openapi.json
";

/// `GET /v1/values/NAME` for each request of the page's table.
fn listed(page: &str) -> BTreeSet<String> {
    let cells =
        page.lines().filter(|line| line.starts_with("| `")).map(|line| line.split(" | ").next().unwrap());
    let spans = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let requests = spans.filter(|span| span.contains(" /"));
    requests.map(|request| request.split('?').next().unwrap().to_owned()).collect()
}

/// The same, of an OpenAPI document.
fn served(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, operations)| {
            let path = path.replace("{name}", "NAME").replace("{id}", "ID");
            let methods = operations.as_object().unwrap().keys().cloned();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

#[test]
fn the_page_lists_what_the_agent_serves() {
    let Some(home) = Home::new() else { return };
    let page = std::fs::read_to_string(root().join("docs/reference/agent-api.md")).unwrap();
    let output = home.run(SCRIPT);
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let mut served = served(&document);
    // The document does not have to describe itself.
    served.insert("GET /openapi.json".into());
    assert_eq!(listed(&page), served);
}
