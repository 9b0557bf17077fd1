//! Commands and options that the pages name, held against the page that is made from the program's help.

use crate::links::{files, prose_and_code, root};
use std::path::PathBuf;

/// Options that every command has, and those of other programs.
const NOT_LISTED: [&str; 2] = ["--help", "--protect"];

fn pages() -> Vec<PathBuf> {
    let ours = ["README.md", "SECURITY.md"].map(|page| root().join(page));
    let docs = files(&["md"]).into_iter().filter(|file| file.starts_with(root().join("docs")));
    docs.filter(|file| !file.ends_with("commands.md")).chain(ours).collect()
}

#[test]
fn commands_and_options_that_pages_name_are_there() {
    let reference = std::fs::read_to_string(root().join("docs/reference/commands.md")).unwrap();
    let is_option = |word: &str| {
        reference.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|there| there == word)
    };
    let (mut options, mut commands) = (0, 0);
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for span in prose_and_code(&text).1 {
            let mut words = span.split([' ', '=']);
            match (words.next(), words.next()) {
                (Some(option), _)
                    if option.starts_with("--") && option.len() > 2 && !NOT_LISTED.contains(&option) =>
                {
                    options += 1;
                    assert!(is_option(option), "{}: there is no option {option}", page.display());
                }
                (Some("strongroom"), Some(name)) if name.chars().all(|c| c.is_ascii_lowercase()) => {
                    commands += 1;
                    let heading = format!("## `strongroom {name}");
                    assert!(reference.contains(&heading), "{}: there is no command {name}", page.display());
                }
                _ => {}
            }
        }
    }
    assert!(options > 60 && commands > 30, "only {options} options and {commands} commands were found");
}
