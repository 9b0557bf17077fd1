//! The page of `report`, read by another program.

use test_support::home::Home;
use test_support::skip::skip;

#[test]
fn the_page_is_html_that_tidy_has_nothing_to_say_about() {
    let Some(home) = Home::with_store() else { return };
    if !test_support::softhsm::installed("tidy") {
        return skip("tidy is missing: apt-get install tidy");
    }
    home.put("prod/db", b"x");
    home.ok(&["grant", "prod/", "--to", "user:root"]);
    home.ok(&["get", "prod/db"]);
    home.ok(&["report", "--html", "report.html"]);
    let output = home.command("tidy").args(["-q", "-e", "report.html"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
