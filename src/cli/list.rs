//! `list`: the tokens, their states and labels. Nothing here opens anything.

use super::context::Context;
use super::describe::{Shown, labels, time_or_nothing, version_json};
use super::output::Output;
use super::table::Table;
use super::{Act, names, time};
use clap::Args;
use strongroom::replica::{ListFilter, TokenRow, VersionRow};
use strongroom::{Result, Vault};

/// List tokens
///
/// Each with its newest version. Into a pipe: columns with tabs between them and no header. With --json: one object
/// for each line.
#[derive(Debug, Args)]
pub struct List {
    /// Only this name and what lies below it: `prod` lists prod and prod/db
    prefix: Option<String>,
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<Shown>,
    /// Only active ones that expire within this time, or have already: 7d, 12h, 2027-01-31
    #[arg(long, value_name = "TIME")]
    expiring: Option<String>,
    /// Only those with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
}

/// What the replica cannot narrow by itself.
struct Narrow {
    state: Option<Shown>,
    expiring: Option<u64>,
    labels: Vec<(String, String)>,
}

impl Act for List {
    fn act(self, context: &mut Context) -> anyhow::Result<()> {
        let filter = ListFilter {
            prefix: self.prefix.as_deref().map(names::prefix).transpose()?.unwrap_or_default(),
            destroyed: self.state == Some(Shown::Destroyed),
        };
        let narrow = Narrow {
            state: self.state,
            expiring: self.expiring.as_deref().map(|at| time::moment("--expiring", at)).transpose()?,
            labels: self.labels.iter().map(|text| names::label(text)).collect::<Result<_>>()?,
        };
        context.with_vault(|vault, out| Ok(list(vault, out, &filter, &narrow)?))
    }
}

fn list(vault: &Vault, out: &mut Output, filter: &ListFilter, narrow: &Narrow) -> Result<()> {
    let mut table = out.table(&["NAME", "VERSION", "STATE", "EXPIRES", "LABELS"]);
    let mut found = false;
    vault.replica().list(filter, |token, row| {
        let shown = Shown::of(vault, &token, &row);
        if narrow.admits(shown, &row) {
            found = true;
            print(vault, out, &mut table, (&token, &row, shown))?;
        }
        Ok(true)
    })?;
    out.end(table)?;
    if !found {
        out.say(match vault.replica().count()? {
            0 => "there are no tokens yet: `strongroom put NAME` stores one",
            _ => "no token matches",
        });
    }
    Ok(())
}

fn print(
    vault: &Vault,
    out: &mut Output,
    table: &mut Table,
    row: (&TokenRow, &VersionRow, Shown),
) -> Result<()> {
    let (token, version, shown) = row;
    if out.json_wanted() {
        let mut object = version_json(vault, token, version);
        object.insert("name".into(), token.name.clone().into());
        return out.json(&object);
    }
    let cells = [
        token.name.clone(),
        version.version.to_string(),
        shown.word().into(),
        time_or_nothing(version.expiry),
        labels(version),
    ];
    out.row(table, cells.into())
}

impl Narrow {
    fn admits(&self, shown: Shown, row: &VersionRow) -> bool {
        let open = matches!(shown, Shown::Active | Shown::Expired | Shown::Early);
        self.state.is_none_or(|state| state == shown)
            && self.expiring.is_none_or(|until| open && row.expiry.is_some_and(|at| at <= until))
            && self.labels.iter().all(|label| row.labels.contains(label))
    }
}
