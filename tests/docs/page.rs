//! A Markdown page's blocks of shell.

/// A block that begins with ```` ```sh ````.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of its fence, counted from 1.
    pub line: usize,
    /// What is to be typed.
    pub text: String,
    /// Why it cannot run on simulators, if the comment before it says so: `<!-- not run: REASON -->`.
    pub not_run: Option<String>,
    /// The exit code it ends with, if the comment before it names one: `<!-- exit code: 4 -->`.
    pub exit_code: u8,
}

const FENCE: &str = "```";

/// The page's blocks of shell, in order.
///
/// # Panics
/// When a block is marked as shell by another word than `sh`, or has no language, so that it would be passed over silently.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().zip(1..);
    let mut before = "";
    while let Some((text, line)) = lines.next() {
        let Some(language) = text.strip_prefix(FENCE) else {
            if !text.is_empty() {
                before = text;
            }
            continue;
        };
        assert!(
            !["", "shell", "bash", "console"].contains(&language),
            "line {line}: name the block's language: sh for what is typed, text for what is shown"
        );
        let inside: Vec<_> = lines.by_ref().map(|(text, _)| text).take_while(|text| *text != FENCE).collect();
        if language == "sh" {
            blocks.push(Block {
                line,
                text: inside.join("\n") + "\n",
                not_run: marked(before, "not run").map(str::to_owned),
                exit_code: marked(before, "exit code").map_or(0, |code| code.parse().unwrap()),
            });
        }
        before = "";
    }
    blocks
}

/// What a comment of this kind says, if the line is one.
fn marked<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let text = line.strip_prefix("<!-- ")?.strip_suffix(" -->").expect("a comment ends on its line");
    text.strip_prefix(kind)?.strip_prefix(": ")
}

/// The script of the blocks that can run. It says on standard error which block it has come to.
pub fn script(blocks: &[Block]) -> String {
    let runs = blocks.iter().filter(|block| block.not_run.is_none());
    runs.map(|Block { line, text, exit_code, .. }| {
        let named = format!("echo 'the block at line {line}:' >&2\n");
        match exit_code {
            0 => named + text,
            code => format!("{named}code=0\n( set -e\n{text}) || code=$?\ntest $code = {code}\n"),
        }
    })
    .collect()
}

#[test]
fn blocks_are_found() {
    let page =
        "a\n```sh\none\n\ntwo\n```\n```toml\n[x]\n```\n\n<!-- not run: no bus -->\n\n```sh\nthree\n```\n";
    let first = Block { line: 2, text: "one\n\ntwo\n".into(), not_run: None, exit_code: 0 };
    let second = Block { line: 13, text: "three\n".into(), not_run: Some("no bus".into()), exit_code: 0 };
    assert_eq!(blocks(page), [first, second]);
    assert_eq!(script(&blocks(page)), "echo 'the block at line 2:' >&2\none\n\ntwo\n");
    assert_eq!(blocks("<!-- exit code: 4 -->\n```sh\nfour\n```\n")[0].exit_code, 4);
}

#[test]
#[should_panic(expected = "name the block's language")]
fn a_block_without_a_language_is_no_page() {
    blocks("```\nstrongroom list\n```\n");
}
