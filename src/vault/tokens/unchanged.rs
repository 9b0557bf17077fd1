//! Which items of an import would change nothing.

use crate::error::{Kind, Result};
use crate::vault::{EffectiveState, ImportItem, PutOptions, TokenBackend, TokenRef, VersionView};

/// Leaves out the items whose token opens with the same bytes and has no other metadata than the item names. Opens the
/// tokens that it compares; one that does not open counts as changed.
///
/// # Errors
/// Those of a PIN: going on would send it again.
pub(crate) fn changed(backend: &mut dyn TokenBackend, items: Vec<ImportItem>) -> Result<Vec<ImportItem>> {
    let mut candidates = Vec::new();
    for item in &items {
        candidates.push(candidate(backend, item)?);
    }
    let wanted: Vec<TokenRef> = candidates.iter().flatten().cloned().collect();
    let mut opened = backend.open_all(&wanted).into_iter();
    let mut changed = Vec::new();
    for (item, candidate) in items.into_iter().zip(candidates) {
        let same = match candidate.and_then(|_| opened.next()) {
            None => false,
            Some(Ok(token)) => token.value == item.token,
            Some(Err(error)) => match error.kind() {
                Kind::PinWrong | Kind::PinLocked | Kind::PinUnavailable | Kind::Cancelled => {
                    return Err(error);
                }
                _ => false,
            },
        };
        if !same {
            changed.push(item);
        }
    }
    Ok(changed)
}

/// The version to compare an item with, if its metadata is the same.
fn candidate(backend: &mut dyn TokenBackend, item: &ImportItem) -> Result<Option<TokenRef>> {
    let token = match backend.show(&item.name, None, "import") {
        Ok(token) => token,
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Refused) => return Ok(None),
        Err(error) => return Err(error),
    };
    let active = token.current_version().filter(|version| version.state == EffectiveState::Active);
    let same = active.filter(|version| has(version, &item.options));
    Ok(same.map(|version| TokenRef { name: item.name.clone(), version: Some(version.version) }))
}

/// Whether a version has all that the options ask for.
fn has(version: &VersionView, options: &PutOptions) -> bool {
    let labels = |wanted: &Vec<(String, String)>| {
        wanted.len() == version.labels.len()
            && wanted.iter().all(|(key, value)| version.labels.get(key) == Some(value))
    };
    options.labels.as_ref().is_none_or(labels)
        && options.description.as_ref().is_none_or(|text| *text == version.description)
        && (options.expiry.is_none() || options.expiry == version.expires)
        && (options.not_before.is_none() || options.not_before == version.not_before)
        && (options.keep.is_none() || options.keep == version.keep)
        && !(options.never_expires && version.expires.is_some())
        && options.threshold.is_none_or(|threshold| threshold == version.threshold)
        && !options.staged
        && options.only.is_empty()
}
