//! The fields that docs/reference/json.md gives for each command, held against what the commands print.

use crate::home::Home;
use crate::links::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Prints the name of each command of the page and then its JSON, a line each.
const SCENARIO: &str = r#"
softhsm2-util --init-token --free --label demo --pin 123456 --so-pin 12345678 >/dev/null
show() { echo "= $1"; strongroom "${@:2}" --json | head -n 1; }
show 'init' init --device pkcs11:token=demo
printf x | strongroom put --quiet a/b
show 'put' put a/c --generate
show 'get' get a/b
show 'list' list
show 'show' show a/b
(strongroom() { timeout 3 strongroom "$@" || test $? = 124; }; show 'watch' watch a/b)
show 'suspend' suspend a/b
show 'resume' resume a/b
show 'rename' rename a/c a/d
show 'grant' grant a/b --to user:root
show 'grants' grants
show 'ungrant' ungrant a/b --to user:root
echo A=b >x.env
show 'policy set' policy set a/ --every 30d --hook pg
show 'policy show' policy show
show 'due' due --within 31d || test $? = 10
show 'policy unset' policy unset a/
show 'import' import x.env
show 'log' log
show 'history' history a/b
show 'log --access' log --access
show 'who-can' who-can a/b
show 'what-could' what-could demo
show 'head' head
show 'trust' trust "$(strongroom head)"
show 'verify' verify
show 'report' report --html page.html
show 'backup' backup copy
show 'backup check' backup check copy
show 'restore' restore copy --store restored
show 'device add' device add piv:serial=12345678 --name second --role open --reseal
show 'device list' device list
show 'device show' device show second
show 'device pcrs' device pcrs
show 'device check' device check
show 'device roles' device roles second --role open
show 'reseal' reseal
show 'adopt' adopt piv:serial=12345678
strongroom device add tpm: --name server --role open --reseal --quiet >/dev/null
show 'device anchor' device anchor server
strongroom device anchor server --remove --quiet
show 'device renew' device renew server
show 'settings' settings --threshold a=1
show 'repair' repair --yes --reason x
strongroom device roles demo --role open --role admin --role witness --quiet
show 'checkpoint' checkpoint
show 'store grant-sql' store grant-sql reader web1
mkdir links; show 'link' link links
show 'age identity' age identity
show 'age recipients' age recipients
printf '[profile.default]\nV = "/a/b"\n' >strongroom.toml
show 'check' check
strongroom device roles second --role open --role admin --quiet
strongroom device roles server --role open --role admin --quiet
strongroom settings --quorum 2 --quiet >/dev/null
change() { strongroom device roles second --role "$1" --device pkcs11:token=demo --quiet 2>/dev/null || test $? = 11; }
hash() { strongroom device changes --json | grep -o '"change":"[0-9a-f]*' | cut -d '"' -f 4; }
change open; show 'device changes' device changes
show 'device reject-change' device reject-change "$(hash)" --device pkcs11:token=demo
strongroom device roles second --role open --role admin --role write --quiet --device pkcs11:token=demo 2>/dev/null || test $? = 11
show 'device approve-change' device approve-change "$(hash)" --device piv:serial=12345678
strongroom settings --quorum 1 --quiet --device pkcs11:token=demo >/dev/null 2>&1 || test $? = 11
strongroom device approve-change "$(hash)" --quiet --device piv:serial=12345678
show 'device retire' device retire second
show 'revoke' revoke a/d --reason x
show 'destroy' destroy a/d --yes
strongroom get nosuch --json 2>error || echo "= Errors"; cat error
"#;

/// Commands that print no object of their own, or whose text is for another program.
const WITHOUT: [&str; 6] = ["agent", "run", "inject", "man", "completions", "credential"];

/// Commands that need what this home does not have: an agent, a hook, an editor. Tests of their own print them; their fields
/// are on the page all the same.
const ELSEWHERE: [&str; 7] = ["edit", "env", "rotate", "unlock", "lock", "status", "doctor"];

/// Every command, as the generated page names it; not those that only hold others.
fn commands() -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/reference/commands.md")).unwrap();
    let named = page.lines().filter_map(|line| line.strip_prefix("## `strongroom ")?.strip_suffix('`'));
    let named: Vec<String> = named.map(str::to_owned).collect();
    let holds = |command: &String| named.iter().any(|other| other.starts_with(&format!("{command} ")));
    named.iter().filter(|command| !holds(command) || *command == "backup").cloned().collect()
}

#[test]
fn every_command_is_on_the_page_and_printed_or_has_a_reason() {
    let page = std::fs::read_to_string(root().join("docs/reference/json.md")).unwrap();
    let documented = documented(&page);
    for command in commands() {
        let group = command.split(' ').next().unwrap();
        if WITHOUT.contains(&group) {
            continue;
        }
        let there = documented.contains_key(&command) || page.contains(&format!("`{command}`"));
        assert!(there, "json.md does not have `{command}`");
        let printed = SCENARIO.contains(&format!("show '{command}'"));
        assert!(printed != ELSEWHERE.contains(&command.as_str()), "`{command}` is not printed here");
    }
}

/// The fields of an object; of what lies in its only field, where that is `error`.
fn fields(object: &Value) -> BTreeSet<String> {
    let object = object.get("error").unwrap_or(object).as_object().unwrap();
    object.keys().cloned().collect()
}

/// What is between backticks, outside brackets.
fn names(cell: &str) -> Vec<String> {
    let outside = cell.split('(').map(|part| part.split_once(')').map_or(part, |(_, after)| after));
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The fields of each command: those of rows of tables, and those of the example under a heading or a line that names commands.
fn documented(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let fields: BTreeSet<_> = names(cells[1]).into_iter().collect();
        found.extend(names(cells[0]).into_iter().map(|command| (command, fields.clone())));
    }
    let parts: Vec<_> = page.split("```").collect();
    for pair in parts.windows(2).step_by(2).filter(|pair| pair[1].starts_with("json\n")) {
        let example = fields(&serde_json::from_str(pair[1].trim_start_matches("json")).unwrap());
        let before = pair[0].trim_end().lines().last().unwrap();
        let mut commands = names(before);
        commands.extend(before.strip_prefix("## ").map(str::to_owned));
        found.extend(commands.into_iter().map(|command| (command, example.clone())));
    }
    found
}

#[test]
fn the_fields_are_those_that_commands_print() {
    let Some(home) = Home::new() else { return };
    let documented = documented(&std::fs::read_to_string(root().join("docs/reference/json.md")).unwrap());
    let output = home.run(SCENARIO);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // Where a line begins with it: SQL has it elsewhere.
    let printed = format!("\n{}", String::from_utf8(output.stdout).unwrap());
    assert_eq!(printed.matches("\n= ").count(), SCENARIO.matches("show '").count() + 1, "{printed}");
    for shown in printed.split("\n= ").skip(1) {
        let (command, text) = shown.split_once('\n').unwrap();
        let object = serde_json::from_str(text).unwrap_or_else(|e| panic!("{command}: {e}: {text}\n{said}"));
        let there = documented.get(command).unwrap_or_else(|| panic!("json.md does not have `{command}`"));
        assert_eq!(&fields(&object), there, "{command}");
    }
}
