//! docs/reference/commands.md is what `--help` says of every command.

use super::Cli;
use clap::{Command, CommandFactory};
use std::path::Path;

/// How wide the page is.
const COLUMNS: usize = 100;

const HEAD: &str = "\
# Commands

Made from the program's own help, and renewed by `SNAPSHOTS=overwrite cargo test --bin strongroom reference`. The
global options of the first section are options of every command.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    describe(Cli::command(), "strongroom", &mut page);
    page
}

/// A command, and then those below it, in their order. Global options are told once, at the top.
fn describe(command: Command, name: &str, page: &mut String) {
    let mut command =
        command.bin_name(name).term_width(COLUMNS).disable_help_flag(true).disable_version_flag(true);
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        let below = below.clone().mut_args(|arg| {
            let global = arg.is_global_set();
            arg.hide(global)
        });
        let path = format!("{name} {}", below.get_name());
        describe(below, &path, page);
    }
}

#[test]
fn the_page_says_what_the_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/commands.md");
    let page = page();
    if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).position(|(now, then)| now != then);
    assert!(
        page == written,
        "docs/reference/commands.md is out of date (line {}): SNAPSHOTS=overwrite cargo test --bin strongroom reference",
        differs.map_or_else(|| page.lines().count().min(written.lines().count()), |line| line + 1)
    );
}
