//! A hook in Rust (docs/reference/hooks.md). Its issuer is a directory: each file in it is an account, whose lines are the values
//! that are accepted. Run it with the directory as its argument.

use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let request: Value = serde_json::from_reader(std::io::stdin())?;
    let directory = std::env::args_os().nth(1).ok_or("which directory?")?;
    let account = request["params"]["account"].as_str().ok_or("no parameter `account`")?;
    let reply = answer(&request, &Path::new(&directory).join(account))?;
    writeln!(std::io::stdout(), "{reply}")?;
    Ok(())
}

fn answer(request: &Value, account: &Path) -> Result<Value, Box<dyn Error>> {
    let (new, old) = (value(request, "new")?, value(request, "old")?);
    let text = std::fs::read_to_string(account)?;
    let mut accepted: Vec<&str> = text.lines().collect();
    let accepts = |value: &Option<String>| value.as_deref().is_some_and(|value| accepted.contains(&value));
    let done = json!({"protocol": 1, "result": "done"});
    match request["step"].as_str() {
        Some("probe") => {
            let both = [("new", accepts(&new)), ("old", accepts(&old))];
            let list: Vec<&str> = both.iter().filter(|(_, yes)| *yes).map(|(which, _)| *which).collect();
            Ok(json!({"protocol": 1, "accepts": list}))
        }
        Some("set") => {
            if !accepts(&new) {
                accepted.extend(new.as_deref());
                save(account, &accepted)?;
            }
            Ok(done)
        }
        Some("test") if accepts(&new) => Ok(done),
        Some("test") => {
            Ok(json!({"protocol": 1, "result": "refused", "message": "the account does not accept it"}))
        }
        Some("retire") => {
            accepted.retain(|line| Some(*line) != old.as_deref());
            save(account, &accepted)?;
            Ok(done)
        }
        _ => Err("a step of another protocol".into()),
    }
}

/// A value, from its file descriptor.
fn value(request: &Value, which: &str) -> Result<Option<String>, Box<dyn Error>> {
    let Some(fd) = request[which]["fd"].as_u64() else { return Ok(None) };
    Ok(Some(std::fs::read_to_string(format!("/proc/self/fd/{fd}"))?))
}

fn save(account: &Path, lines: &[&str]) -> std::io::Result<()> {
    std::fs::write(account, lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}
