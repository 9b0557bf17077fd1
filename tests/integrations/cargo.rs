//! cargo, with a registry that wants a token for everything.

use crate::server::Server;
use crate::{command, configure, home_with, said};
use std::process::Output;
use test_support::home::Home;

fn yank(home: &Home, port: u16) -> Output {
    let mut cargo = command(home, "cargo");
    for variable in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(variable).filter(|_| variable != "CARGO_HOME") {
            cargo.env(variable, value);
        }
    }
    // A toolchain that rustup chose is found below the user's own home.
    if let (None, Some(user)) = (std::env::var_os("RUSTUP_HOME"), std::env::home_dir()) {
        cargo.env("RUSTUP_HOME", user.join(".rustup"));
    }
    cargo.env("CARGO_HOME", home.dir.join("cargo"));
    cargo.env("CARGO_REGISTRIES_TEST_INDEX", format!("sparse+http://127.0.0.1:{port}/index/"));
    cargo.env("CARGO_REGISTRIES_TEST_CREDENTIAL_PROVIDER", "cargo-credential-strongroom");
    cargo.args(["yank", "--registry", "test", "demo@1.0.0"]).output().unwrap()
}

#[test]
fn each_operation_may_have_its_own_token() {
    let Some(home) = home_with("cargo", "install a Rust toolchain") else { return };
    let server = Server::start(&home, "reader");
    let api = format!("http://127.0.0.1:{}", server.port);
    server.file(
        "index/config.json",
        &format!("{{\"dl\":\"{api}/dl\",\"api\":\"{api}\",\"auth-required\":true}}"),
    );
    let unknown = yank(&home, server.port);
    assert!(!unknown.status.success(), "{}", said(&unknown));
    assert!(!server.requests().contains("reader"));

    configure(&home, &format!("[hosts.cargo]\n\"{api}\" = \"work/cargo\""));
    home.put("work/cargo", b"reader");
    home.put("work/cargo/yank", b"yanker");
    let output = yank(&home, server.port);
    let requests = server.requests();
    assert!(requests.contains("GET /index/config.json reader\n"), "{requests} {}", said(&output));
    assert!(
        requests.contains("DELETE /api/v1/crates/demo/1.0.0/yank yanker\n"),
        "{requests} {}",
        said(&output)
    );

    // What went wrong reaches the person by way of cargo.
    std::fs::remove_file(home.dir.join("pin")).unwrap();
    let locked = yank(&home, server.port);
    assert!(said(&locked).contains("cannot open work/cargo"), "{}", said(&locked));
}
