//! The command `docker`, which asks registries for manifests by itself, without its daemon; or skopeo, which does no more.

use crate::server::Server;
use crate::{command, configure, done, given, home_with, put_with, said};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

#[test]
fn a_registry_lets_it_in() {
    let program = if test_support::softhsm::installed("docker") { "docker" } else { "skopeo" };
    let Some(home) = home_with(program, "apt-get install skopeo") else { return };
    let server = Server::start_tls(&home, &format!("Basic {}", STANDARD.encode("bob:s3cret")));
    let registry = format!("127.0.0.1:{}", server.port);
    server.file("v2/index.json", "{}");
    std::fs::create_dir(home.dir.join(".docker")).unwrap();
    // Docker asks the one for all registries; skopeo and podman know only the one by registry.
    let config = match program {
        "docker" => "{\"credsStore\":\"strongroom\"}".to_owned(),
        _ => format!("{{\"credHelpers\":{{\"{registry}\":\"strongroom\"}}}}"),
    };
    std::fs::write(home.dir.join(".docker/config.json"), config).unwrap();
    put_with(&home, &format!("docker/{registry}"), "s3cret", "username=bob");
    let image = format!("{registry}/img:latest");
    let mut inspect = command(&home, program);
    match program {
        "docker" => inspect.args(["manifest", "inspect", "--insecure", &image]),
        _ => inspect.args(["inspect", "--tls-verify=false", &format!("docker://{image}")]),
    };
    let output = inspect.output().unwrap();
    assert!(
        server.requests().contains(&STANDARD.encode("bob:s3cret")),
        "{} {}",
        said(&output),
        server.requests()
    );
}

#[test]
fn logins_are_kept_listed_and_closed() {
    let Some(home) = home_with("sh", "") else { return };
    let helper = |action: &str, input: &str| {
        said(&given(command(&home, "docker-credential-strongroom").arg(action), input))
    };
    let hub = "https://index.docker.io/v1/";
    helper("store", &format!("{{\"ServerURL\":\"{hub}\",\"Username\":\"bob\",\"Secret\":\"pw\"}}"));
    assert_eq!(
        helper("get", hub),
        format!("{{\"ServerURL\":\"{hub}\",\"Username\":\"bob\",\"Secret\":\"pw\"}}")
    );
    configure(&home, "[hosts.docker]\n\"http://127.0.0.1:5000\" = \"work/registry\"");
    put_with(&home, "work/registry", "x", "username=alice");
    assert_eq!(helper("list", ""), format!("{{\"http://127.0.0.1:5000\":\"alice\",\"{hub}\":\"bob\"}}"));
    helper("erase", hub);
    assert!(done(&mut home.strongroom(&["list", "docker"])).contains("suspended"));
    // In the protocol's own words, which make a client go on without a credential.
    let unknown = command(&home, "sh")
        .args(["-c", "echo ghcr.io | docker-credential-strongroom get"])
        .output()
        .unwrap();
    assert_eq!(
        (unknown.status.code(), said(&unknown)),
        (Some(1), "credentials not found in native keychain\n".into())
    );
}
