//! The page. Everything from outside goes through [`said`], and maud escapes it.

use crate::cli::args::time::rfc3339_secs;
use crate::cli::report::chart::{by_day, date};
use crate::cli::report::data::{Accesses, DAY, Data, is_live, level};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use strongroom::error::printable;
use strongroom::ledger::sha256;
use strongroom::replica::DeviceRow;
use strongroom::vault::{GrantOn, GrantView, VersionView};

const STYLE: &str = include_str!("style.css");

/// How many tokens have a row; the command line lists them all.
const ROWS: usize = 2000;

/// The whole page.
pub fn render(data: &Data) -> String {
    let style = STANDARD.encode(sha256(STYLE.as_bytes()).0);
    let policy =
        format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { "Strongroom report, " (date(data.now)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#findings" { "Skip to the findings" }
                header {
                    h1 { "Strongroom report" }
                    dl {
                        dt { "Store" } dd { (said(&data.location)) }
                        dt { "Verified" } dd { (data.statements) " statements, on " time { (rfc3339_secs(data.now)) } }
                        dt { "Trust anchor" } dd { code { (data.line) } }
                    }
                }
                nav aria-label="Sections" {
                    ul {
                        @for (id, title) in SECTIONS { li { a href={ "#" (id) } { (title) } } }
                    }
                }
                main {
                    (section(0, findings(data)))
                    (section(1, tokens(data)))
                    (section(2, matrix(data)))
                    (section(3, devices(&data.devices)))
                    (section(4, grants(&data.grants, data.now)))
                    (section(5, accesses(&data.accesses)))
                }
                footer { "Made by strongroom " (env!("CARGO_PKG_VERSION")) ". The access log is the word of the machines that read." }
            }
        }
    }
    .into_string()
}

const SECTIONS: [(&str, &str); 6] = [
    ("findings", "Findings"),
    ("tokens", "Tokens"),
    ("matrix", "Who can open what"),
    ("devices", "Devices"),
    ("grants", "Grants"),
    ("accesses", "Accesses"),
];

fn section(which: usize, content: Markup) -> Markup {
    let (id, title) = SECTIONS[which];
    html! { section id=(id) aria-labelledby={ (id) "-title" } { h2 id={ (id) "-title" } { (title) } (content) } }
}

/// A table that scrolls by itself, also by keyboard.
fn table(caption: &str, columns: &[&str], rows: Markup) -> Markup {
    html! {
        div class="scroll" role="region" tabindex="0" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr { @for column in columns { th scope="col" { (column) } } } }
                tbody { @if rows.0.is_empty() { tr { td colspan=(columns.len()) { "none" } } } @else { (rows) } }
            }
        }
    }
}

fn said(text: &str) -> String {
    printable(text)
}

fn when(at: Option<u64>) -> Markup {
    html! { @match at { Some(at) => time { (rfc3339_secs(at)) }, None => "–" } }
}

fn findings(data: &Data) -> Markup {
    html! {
        @if data.findings.is_empty() { p class="good" { "Everything verifies, and nothing is due." } }
        ul class="findings" {
            @for finding in &data.findings {
                li class=(if finding.grave { "grave" } else { "note" }) {
                    strong { (if finding.grave { "Problem: " } else { "Note: " }) } (said(&finding.what))
                }
            }
        }
    }
}

fn tokens(data: &Data) -> Markup {
    let mut oldest: Vec<&VersionView> = data.tokens.iter().collect();
    oldest.sort_by_key(|token| token.put);
    let age = |token: &VersionView| data.now.saturating_sub(token.put.unwrap_or(data.now)) / DAY;
    let rows = html! {
        @for token in oldest.iter().take(ROWS) {
            tr class=(if is_live(token) { "live" } else { "over" }) {
                th scope="row" { (said(&token.name)) }
                td class="number" { (token.version) }
                td { (token.state.word()) }
                td class="number" { (age(token)) }
                td { (said(&token.by)) }
                td { (when(token.expires)) }
                td { (when(token.rotation_due)) }
                td { @for (key, value) in &token.labels { span class="label" { (said(key)) "=" (said(value)) } " " } }
                td { (said(&token.description)) }
            }
        }
    };
    let columns = [
        "Name",
        "Version",
        "State",
        "Age in days",
        "Put by",
        "Expires",
        "Rotation due",
        "Labels",
        "Description",
    ];
    html! { (table("Tokens, oldest value first", &columns, rows)) (left_out(data.tokens.len())) }
}

fn left_out(tokens: usize) -> Markup {
    html! { @if tokens > ROWS { p { (tokens - ROWS) " more tokens: " code { "strongroom list" } " shows them all." } } }
}

fn matrix(data: &Data) -> Markup {
    let active: Vec<&DeviceRow> = data.devices.iter().filter(|device| device.retired.is_none()).collect();
    let mut columns = vec!["Token"];
    columns.extend(active.iter().map(|device| device.enrolment.name.as_str()));
    columns.push("Through the agent");
    let on = |grant: &GrantView| grant.on.parse::<GrantOn>().ok();
    let grants: Vec<_> = data.grants.iter().filter_map(|grant| Some((on(grant)?, grant))).collect();
    let rows = html! {
        @for token in data.tokens.iter().filter(|token| is_live(token)).take(ROWS) {
            tr {
                th scope="row" { (said(&token.name)) @if token.threshold > 1 { " (" (token.threshold) " together)" } }
                @for device in &active { td { (mark(token, device)) } }
                td {
                    @for (_, grant) in grants.iter().filter(|(on, _)| on.covers(&token.name)) {
                        span class="label" { (said(&grant.to)) " " (grant.ops.join(",")) } " "
                    }
                }
            }
        }
    };
    html! {
        p { "● opens it · ○ should, and is not sealed to it yet (" code { "strongroom reseal" } ")" }
        (table("Tokens by device, and applications with a grant", &columns, rows))
        (left_out(data.tokens.len()))
    }
}

fn mark(token: &VersionView, device: &DeviceRow) -> Markup {
    let name = &device.enrolment.name;
    html! {
        @if token.recipients.contains(name) { span role="img" aria-label="opens it" { "●" } }
        @else if device.opens(&token.name) { span role="img" aria-label="should open it" { "○" } }
    }
}

fn devices(devices: &[DeviceRow]) -> Markup {
    let rows = html! {
        @for device in devices {
            @let enrolment = &device.enrolment;
            tr class=(if device.retired.is_none() { "live" } else { "over" }) {
                th scope="row" { (said(&enrolment.name)) }
                td {
                    @match &device.retired {
                        None => "active",
                        Some((true, reason)) => { "retired as compromised: " (said(reason)) }
                        Some((false, reason)) => { "retired: " (said(reason)) }
                    }
                }
                td { (said(&enrolment.model)) " " (said(&enrolment.serial)) }
                td { @for role in &device.roles { span class="label" { (said(&role.to_string())) } " " } }
                td class=(format!("evidence-{}", level(device))) { (level(device)) }
                td {
                    @for (claim, held) in &enrolment.opening.evidence.claims {
                        span class="label" { (said(claim)) ": " (if *held { "yes" } else { "no" }) } " "
                    }
                }
                td { (when(Some(device.time))) }
            }
        }
    };
    let columns =
        ["Name", "State", "Model and serial", "Roles", "Evidence", "Opening key's claims", "Enrolled"];
    table("Devices, with the evidence that their keys cannot leave them", &columns, rows)
}

fn grants(grants: &[GrantView], now: u64) -> Markup {
    let rows = html! {
        @for grant in grants {
            tr class=(if grant.until.is_none_or(|until| until > now) { "live" } else { "over" }) {
                th scope="row" { (said(&grant.on)) }
                td { (said(&grant.to)) }
                td { (grant.ops.join(", ")) }
                td { (said(grant.alias.as_deref().unwrap_or("–"))) }
                td { (when(grant.until)) }
            }
        }
    };
    table("Grants to applications", &["On", "To", "May", "As", "Until"], rows)
}

fn accesses(accesses: &Accesses) -> Markup {
    let mut tokens: Vec<(&String, &u64)> = accesses.by_token.iter().collect();
    tokens.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    let by_token = html! {
        @for (name, count) in tokens.iter().take(50) {
            tr { th scope="row" { (said(name)) } td class="number" { (count) } }
        }
    };
    let days = html! {
        @for (day, opened, not) in accesses.days.iter().rev() {
            tr { th scope="row" { (date(*day)) } td class="number" { (opened) } td class="number" { (not) } }
        }
    };
    let failures = html! {
        @for line in &accesses.failures {
            tr class="grave" {
                th scope="row" { (when(line.time)) }
                td { (said(&line.name)) }
                td { (said(&line.outcome)) }
                td class="number" { (line.uid) }
                td { (said(&line.exe)) }
                td { (said(&line.device)) }
            }
        }
    };
    html! {
        figure { (by_day(&accesses.days)) figcaption { span class="key opened" { "opened" } " " span class="key failed" { "not opened" } } }
        details { summary { "The same as a table" } (table("Accesses by day", &["Day", "Opened", "Not opened"], days)) }
        (table("Tokens opened most often", &["Token", "Times"], by_token))
        (table("Accesses that came to nothing, newest first", &["Time", "Token", "Outcome", "User", "Program", "Device"], failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::data::Finding;
    use strongroom::vault::AccessView;

    fn data() -> Data {
        let hostile = "<script>alert(1)</script>\"' onload=x \u{202e}&amp;";
        Data {
            location: hostile.into(),
            line: "line".into(),
            now: 1_764_000_000_000,
            findings: vec![Finding { grave: true, what: hostile.into() }],
            statements: 7,
            tokens: Vec::new(),
            devices: Vec::new(),
            grants: vec![GrantView {
                id: String::new(),
                on: "prod/".into(),
                to: hostile.into(),
                ops: vec!["get".into()],
                until: None,
                alias: Some(hostile.into()),
                n: 1,
            }],
            accesses: Accesses {
                days: vec![(1_763_942_400_000, 3, 1)],
                by_token: [(hostile.to_owned(), 3)].into(),
                failures: vec![AccessView {
                    n: 1,
                    time: Some(1),
                    name: hostile.into(),
                    version: None,
                    outcome: hostile.into(),
                    uid: 0,
                    pid: 0,
                    exe: hostile.into(),
                    device: hostile.into(),
                }],
            },
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        let page = render(&data());
        assert!(!page.contains("<script") && !page.contains('\u{202e}'), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("u{202e}"), "{page}");
        // No attribute is made of it: the only quotes are those of the template.
        assert!(!page.contains("\"' onload"), "{page}");
    }

    #[test]
    fn nothing_is_loaded_and_nothing_runs() {
        let page = render(&data());
        for word in [
            "src=",
            "http://",
            "https://",
            "url(",
            "@import",
            "style=",
            "javascript:",
            "<link",
            "<iframe",
            "<img",
        ] {
            assert!(!page.contains(word), "{word}");
        }
        let hash = STANDARD.encode(sha256(STYLE.as_bytes()).0);
        assert!(
            page.contains(&format!("style-src &apos;sha256-{hash}&apos;"))
                || page.contains(&format!("style-src 'sha256-{hash}'"))
        );
        assert!(page.contains(&format!("<style>{STYLE}</style>")));
    }

    #[test]
    fn each_link_has_its_section_and_each_table_its_caption() {
        let page = render(&data());
        for (id, _) in SECTIONS {
            assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1);
            assert!(page.contains(&format!("href=\"#{id}\"")));
        }
        assert_eq!(page.matches("<table>").count(), page.matches("<caption>").count());
    }

    #[test]
    fn a_prefix_grant_reaches_what_lies_below() {
        let on: GrantOn = data().grants[0].on.parse().unwrap();
        assert!(on.covers("prod/db") && !on.covers("production") && !on.covers("dev/prod"));
    }
}
