//! Watching tokens: what is different from what was seen before.

use super::views::{EffectiveState, VersionView};
use crate::error::Result;
use crate::replica::ListFilter;
use crate::vault::{GrantOn, TokenBackend};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A watched token as it is now: its version in use. Without version and state it is not there any more, or not for this
/// client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(utoipa::ToSchema))]
pub struct WatchedToken {
    /// Its name.
    pub name: String,
    /// The version in use.
    pub version: Option<u64>,
    /// Its state.
    pub state: Option<EffectiveState>,
}

/// What was seen last.
#[derive(Debug, Default)]
pub struct Watched(BTreeMap<String, WatchedToken>);

impl Watched {
    /// What is new in these, which are all there are, in the order of their names. At first that is everything.
    pub fn news(&mut self, views: &[VersionView]) -> Vec<WatchedToken> {
        let token = |view: &VersionView| {
            let (version, state) = (Some(view.version), Some(view.state));
            (view.name.clone(), WatchedToken { name: view.name.clone(), version, state })
        };
        let now: BTreeMap<String, WatchedToken> = views.iter().map(token).collect();
        let before = std::mem::replace(&mut self.0, now);
        let gone = before.keys().filter(|name| !self.0.contains_key(*name));
        let gone = gone.map(|name| WatchedToken { name: name.clone(), version: None, state: None });
        let news = self.0.values().filter(|token| before.get(&token.name) != Some(*token)).cloned();
        let mut news: Vec<WatchedToken> = news.chain(gone).collect();
        news.sort_by(|a, b| a.name.cmp(&b.name));
        news
    }
}

/// The tokens that are named, or lie under the prefixes that are.
///
/// # Errors
/// The backend's.
pub fn watched(tokens: &mut dyn TokenBackend, on: &[GrantOn]) -> Result<Vec<VersionView>> {
    let mut views: Vec<VersionView> = Vec::new();
    for on in on {
        let filter = filter(on);
        tokens.list(&filter, &mut |view| {
            // Names below a token's come after it.
            let wanted = on.covers(&view.name);
            if wanted {
                views.push(view);
            }
            Ok(wanted)
        })?;
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views.dedup_by(|a, b| a.name == b.name);
    Ok(views)
}

/// What lists those tokens, and perhaps some below their names.
pub fn filter(on: &GrantOn) -> ListFilter {
    let prefix = match on {
        GrantOn::Prefix(prefix) => prefix.clone(),
        GrantOn::Token(name) => crate::ledger::Prefix::parse(name.as_str()).unwrap_or_default(),
    };
    ListFilter { prefix, ..ListFilter::default() }
}
