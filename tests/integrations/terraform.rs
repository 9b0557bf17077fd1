//! Terraform, or OpenTofu, with a registry of modules that wants a token.

use crate::server::Server;
use crate::{command, done, given, home_with, said};

#[test]
fn a_registry_lets_terraform_in() {
    let there = ["terraform", "tofu"].into_iter().find(|program| test_support::softhsm::installed(program));
    let Some(program) = there else {
        return test_support::skip::skip_not_in_debian(
            "Terraform and OpenTofu are missing: https://opentofu.org/docs/intro/install",
        );
    };
    let Some(home) = home_with(program, "") else { return };
    let server = Server::start_tls(&home, "Bearer s3cret");
    let host = format!("127.0.0.1:{}", server.port);
    server.file(".well-known/terraform.json", "{\"modules.v1\":\"/modules/\"}");
    let mut store = command(&home, "terraform-credentials-strongroom");
    given(store.args(["store", &host]), "{\"token\":\"s3cret\"}");
    assert!(done(&mut home.strongroom(&["list"])).starts_with(&format!("terraform/{host}\t1\tactive")));

    std::fs::create_dir(home.dir.join("plan")).unwrap();
    std::fs::create_dir_all(home.dir.join(".terraform.d/plugins")).unwrap();
    done(&mut home.strongroom(&["link", ".terraform.d/plugins"]));
    std::fs::write(home.dir.join(".terraformrc"), "credentials_helper \"strongroom\" {}\n").unwrap();
    std::fs::write(
        home.dir.join("plan/main.tf"),
        format!("module \"m\" {{\n  source = \"{host}/a/b/c\"\n}}\n"),
    )
    .unwrap();
    let mut init = command(&home, program);
    init.args(["-chdir=plan", "init", "-no-color"]).env("SSL_CERT_FILE", home.dir.join("certificate.pem"));
    let output = init.env("CHECKPOINT_DISABLE", "1").output().unwrap();
    let requests = server.requests();
    assert!(requests.contains("GET /modules/a/b/c/versions Bearer s3cret\n"), "{requests} {}", said(&output));

    let mut forget = command(&home, "terraform-credentials-strongroom");
    done(forget.args(["forget", &host]));
    assert!(done(&mut home.strongroom(&["list"])).contains("suspended"));
    let mut get = command(&home, "terraform-credentials-strongroom");
    assert_eq!(done(get.args(["get", "other.example"])), "{}\n");
}
