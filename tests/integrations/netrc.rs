//! curl, which takes a token from a file in memory that is written as .netrc is.

use crate::server::Server;
use crate::{command, done, home_with};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

#[test]
fn curl_reads_a_netrc_that_lies_on_no_disk() {
    let Some(home) = home_with("curl", "apt-get install curl") else { return };
    let authorization = format!("Basic {}", STANDARD.encode("alice:s3cret"));
    let server = Server::start(&home, &authorization);
    std::fs::write(home.dir.join("served/file"), "here").unwrap();
    home.put("netrc/work", b"machine 127.0.0.1 login alice password s3cret\n");
    let get = format!("curl -sf --netrc-file \"$NETRC\" http://127.0.0.1:{}/file", server.port);
    let fetched = done(command(&home, "strongroom").args([
        "run",
        "--file",
        "NETRC=netrc/work",
        "--",
        "sh",
        "-c",
        &get,
    ]));
    assert_eq!(fetched, "here");
    // The same server by another name gets nothing.
    let other = get.replace("127.0.0.1", "localhost");
    let output = command(&home, "strongroom")
        .args(["run", "--file", "NETRC=netrc/work", "--", "sh", "-c", &other])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(22));
    assert_eq!(server.requests().matches(&authorization).count(), 1);
}
