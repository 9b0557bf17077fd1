//! kubectl, with an API server that wants a bearer token.

use crate::server::Server;
use crate::{command, done, home_with};

#[test]
fn the_api_server_lets_kubectl_in() {
    let Some(home) = home_with("kubectl", "https://kubernetes.io/docs/tasks/tools") else { return };
    let server = Server::start_tls(&home, "Bearer s3cret");
    server.file("version", "{\"gitVersion\":\"v1.test\"}");
    home.put("work/cluster", b"s3cret");
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: certificate.pem}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         users: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: strongroom, \
         args: [credential, kubectl, work/cluster], interactiveMode: Never}}}}}}]\n",
        server.port
    );
    std::fs::write(home.dir.join("kubeconfig"), config).unwrap();
    let version =
        done(command(&home, "kubectl").args(["--kubeconfig", "kubeconfig", "get", "--raw", "/version"]));
    assert_eq!(version, "{\"gitVersion\":\"v1.test\"}");

    home.put("work/key", b"-----BEGIN PRIVATE KEY-----\n");
    home.put("work/certificate", b"-----BEGIN CERTIFICATE-----\n");
    let pair = done(&mut home.strongroom(&[
        "credential",
        "kubectl",
        "work/key",
        "--certificate",
        "work/certificate",
    ]));
    assert!(
        pair.contains("\"clientKeyData\":\"-----BEGIN PRIVATE KEY-----\\n\"") && !pair.contains("\"token\""),
        "{pair}"
    );
    let old = home
        .strongroom(&["credential", "kubectl", "work/cluster"])
        .env("KUBERNETES_EXEC_INFO", "{\"apiVersion\":\"client.authentication.k8s.io/v1alpha1\"}")
        .output()
        .unwrap();
    assert!(!old.status.success() && old.stdout.is_empty());
}
