//! `list`: the tokens, their states and labels. Nothing here opens anything.

use crate::cli::Execute;
use crate::cli::args::{names, time};
use crate::cli::completions;
use crate::cli::context::Context;
use crate::cli::output::Output;
use crate::cli::output::format::{labels, time_cell};
use crate::cli::output::table::Table;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use strongroom::Result;
use strongroom::replica::ListFilter;
use strongroom::vault::{EffectiveState, TokenBackend, VersionView, system_clock};

#[derive(Debug, Args)]
pub struct List {
    /// Only this name and what lies below it: `prod` lists prod and prod/db
    #[arg(add = ArgValueCompleter::new(completions::names))]
    prefix: Option<String>,
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<EffectiveState>,
    /// Only active ones that expire within this time, or have already: 7d, 12h, 2027-01-31
    #[arg(long, value_name = "TIME")]
    expiring: Option<String>,
    /// Only those with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Only those that do not open any more when one device is lost, as they are sealed to too few
    #[arg(long)]
    single_device: bool,
}

/// What the replica cannot narrow by itself.
struct Narrow {
    single_device: bool,
    state: Option<EffectiveState>,
    expiring: Option<u64>,
    labels: Vec<(String, String)>,
}

impl Execute for List {
    fn execute(self, context: &mut Context) -> anyhow::Result<()> {
        let filter = ListFilter {
            prefix: self.prefix.as_deref().map(names::prefix).transpose()?.unwrap_or_default(),
            destroyed: self.state == Some(EffectiveState::Destroyed),
            after: String::new(),
        };
        let narrow = Narrow {
            single_device: self.single_device,
            state: self.state,
            expiring: self.expiring.as_deref().map(|at| time::timestamp("--expiring", at)).transpose()?,
            labels: self.labels.iter().map(|text| names::label(text)).collect::<Result<_>>()?,
        };
        context.with_tokens(|tokens, out| Ok(list(tokens, out, &filter, &narrow)?))
    }
}

fn list(tokens: &mut dyn TokenBackend, out: &mut Output, filter: &ListFilter, narrow: &Narrow) -> Result<()> {
    let mut table = out.table(&["NAME", "VERSION", "STATE", "EXPIRES", "LABELS"]);
    let (mut any, mut found) = (false, false);
    tokens.list(filter, &mut |view| {
        any = true;
        if narrow.admits(&view) {
            found = true;
            print(out, &mut table, &view)?;
        }
        Ok(true)
    })?;
    out.end(table)?;
    if !found {
        let all = !any && filter.prefix.as_str().is_empty() && !filter.destroyed;
        out.info(match (all || is_empty(tokens)?, tokens.is_restricted()?) {
            (true, true) => {
                "no token is granted to you: `strongroom grant`, run by the agent's owner, does that"
            }
            (true, false) => "there are no tokens yet: `strongroom put NAME` stores one",
            (false, _) => "no token matches",
        });
    }
    Ok(())
}

fn is_empty(tokens: &mut dyn TokenBackend) -> Result<bool> {
    let mut empty = true;
    tokens.list(&ListFilter::default(), &mut |_| {
        empty = false;
        Ok(false)
    })?;
    Ok(empty)
}

fn print(out: &mut Output, table: &mut Table, view: &VersionView) -> Result<()> {
    let staged = view.staged.map(|version| format!("{version} staged"));
    let due = view.rotation_due.filter(|due| *due <= system_clock()).map(|_| "rotation due".to_owned());
    let together = (view.threshold > 1).then(|| format!("{} devices", view.threshold));
    let more: Vec<String> = staged.into_iter().chain(due).chain(together).collect();
    let state = match more.is_empty() {
        true => view.state.word().into(),
        false => format!("{} ({})", view.state.word(), more.join(", ")),
    };
    let cells =
        [view.name.clone(), view.version.to_string(), state, time_cell(view.expires), labels(&view.labels)];
    out.entry(table, view, cells)
}

impl Narrow {
    fn admits(&self, view: &VersionView) -> bool {
        use EffectiveState::{Active, Destroyed, Early, Expired, Revoked, Staged};
        let closed = matches!(view.state, Revoked | Destroyed);
        let open = matches!(view.state, Active | Expired | Early);
        self.state.is_none_or(|state| state == view.state || state == Staged && view.staged.is_some())
            && self.expiring.is_none_or(|until| open && view.expires.is_some_and(|at| at <= until))
            && (!self.single_device || !closed && view.recipients.len() as u64 <= view.threshold)
            && self.labels.iter().all(|(key, value)| view.labels.get(key) == Some(value))
    }
}
