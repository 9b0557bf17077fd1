//! An agent in the place of a vault.

use super::api::{
    AccessPage, AgeFile, AgeStanza, Destroyed, GrantList, GrantRequest, Rename, StateChange, StoredVersion,
    TokenPage, WantedState, WhoAmI,
};
use super::{Client, MAX_PAGE, odd, parse};
use crate::error::{Error, Kind, Result};
use crate::ledger::Name;
use crate::ledger::body::State;
use crate::replica::ListFilter;
use crate::seal::Stanza;
use crate::secret::Secret;
use crate::vault::unchanged;
use crate::vault::{
    AccessView, EntryView, GrantOn, GrantOptions, GrantView, Grantee, ImportItem, Imported, LogOrder,
    OpenedToken, PutOptions, PutReport, Revoked, TokenBackend, TokenRef, TokenView, VersionView,
};

impl TokenBackend for Client {
    fn open_all(&mut self, wanted: &[TokenRef]) -> Vec<Result<OpenedToken>> {
        let open = |wanted: &TokenRef| {
            let version = wanted.version.map(|version| ("version", version.to_string()));
            let path = format!("/v1/values/{}", wanted.name);
            let response = self.exchange("GET", &path, version.as_slice(), None)?;
            let version = response.version.ok_or_else(|| odd("no version").with_target(&self.on))?;
            Ok(OpenedToken { version, value: Secret::from(response.body) })
        };
        wanted.iter().map(open).collect()
    }

    fn list(&mut self, filter: &ListFilter, each: &mut dyn FnMut(VersionView) -> Result<bool>) -> Result<()> {
        let mut after = None;
        loop {
            let mut query = vec![
                ("prefix", filter.prefix.as_str().to_owned()),
                ("destroyed", filter.destroyed.to_string()),
            ];
            query.extend(after.map(|after| ("after", after)));
            let page: TokenPage = parse(&self.ask("GET", "/v1/tokens", &query, None)?)?;
            for view in page.tokens {
                if !each(view)? {
                    return Ok(());
                }
            }
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }

    fn show(&mut self, name: &Name, version: Option<u64>, operation: &str) -> Result<TokenView> {
        let version = version.map(|version| ("version", version.to_string()));
        let shown = self.ask("GET", &format!("/v1/tokens/{name}"), version.as_slice(), None);
        parse(&shown.map_err(|error| error.with_operation(operation))?)
    }

    fn put(&mut self, name: &Name, token: &Secret, options: &PutOptions) -> Result<PutReport> {
        let time = |ms: u64| {
            let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            at.map_or_else(|| ms.to_string(), |at| at.to_string())
        };
        let mut query = Vec::new();
        query.extend(options.expiry.map(|at| ("expires", time(at))));
        query.extend(options.never_expires.then(|| ("never_expires", "true".to_owned())));
        query.extend(options.not_before.map(|at| ("not_before", time(at))));
        query.extend(options.keep.map(|keep| ("keep", keep.to_string())));
        query.extend(options.description.clone().map(|text| ("description", text)));
        query.extend(options.staged.then(|| ("staged", "true".to_owned())));
        let labels = options.labels.iter().flatten();
        query.extend(labels.map(|(key, value)| ("label", format!("{key}={value}"))));
        query.extend(options.only.iter().map(|device| ("only", device.clone())));
        query.extend(options.threshold.map(|threshold| ("threshold", threshold.to_string())));
        let put = self.ask("PUT", &format!("/v1/values/{name}"), &query, Some(token.expose()))?;
        let put: StoredVersion = parse(&put)?;
        let token = put.token_id.parse().map_err(|_| odd("no token id"))?;
        let StoredVersion { version, expires, recipients, threshold, .. } = put;
        Ok(PutReport { token, version, expires, recipients, threshold })
    }

    fn set_state(&mut self, name: &Name, version: Option<u64>, state: State, reason: &str) -> Result<()> {
        let state = match state {
            State::Active => WantedState::Active,
            State::Suspended => WantedState::Suspended,
            State::Revoked => WantedState::Revoked,
            State::Staged => {
                return Err(Error::new(
                    Kind::Usage,
                    "change a state",
                    "a token is not staged after it was put",
                ));
            }
        };
        let body = StateChange { state, version, reason: reason.to_owned() };
        self.send(&format!("/v1/states/{name}"), &body).map(drop)
    }

    fn open_age_file(&mut self, stanzas: &[Stanza]) -> Result<Option<Secret>> {
        let file = AgeFile { stanzas: stanzas.iter().map(AgeStanza::from).collect() };
        let key = Secret::from(self.send("/v1/age-file", &file)?);
        Ok(Some(key).filter(|key| !key.is_empty()))
    }

    fn sealed(&mut self, wanted: &TokenRef, operation: &str) -> Result<Vec<u8>> {
        let version = wanted.version.map(|version| ("version", version.to_string()));
        let sealed = self.ask("GET", &format!("/v1/sealed/{}", wanted.name), version.as_slice(), None);
        Ok(sealed.map_err(|error| error.with_operation(operation))?.to_vec())
    }

    fn log(&mut self, order: LogOrder, each: &mut dyn FnMut(EntryView) -> Result<bool>) -> Result<()> {
        let (direction, from) = match order {
            LogOrder::NewestFirst => ("before", None),
            LogOrder::OldestFirst => ("after", Some(0)),
        };
        self.entries("/v1/log", direction, from, each)
    }

    fn history(&mut self, name: &Name) -> Result<Vec<EntryView>> {
        let mut entries = Vec::new();
        self.entries(&format!("/v1/history/{name}"), "after", Some(0), &mut |entry| {
            entries.push(entry);
            Ok(true)
        })?;
        Ok(entries)
    }

    fn accesses(&mut self, before: u64, limit: u32) -> Result<Vec<AccessView>> {
        let query = [("before", before.to_string()), ("limit", limit.clamp(1, MAX_PAGE).to_string())];
        let page: AccessPage = parse(&self.ask("GET", "/v1/accesses", &query, None)?)?;
        Ok(page.accesses)
    }

    fn grant(&mut self, on: &GrantOn, to: &Grantee, options: &GrantOptions) -> Result<GrantView> {
        let body = GrantRequest {
            on: on.to_string(),
            to: to.to_string(),
            ops: options.ops.iter().map(|op| (*op).into()).collect(),
            until: options.until,
            alias: options.alias.clone(),
        };
        parse(&self.send("/v1/grants", &body)?)
    }

    fn ungrant(&mut self, which: &Revoked) -> Result<Vec<GrantView>> {
        let gone = match which {
            Revoked::Id(id) => self.ask("DELETE", &format!("/v1/grants/{id}"), &[], None),
            Revoked::Of(on, to) => {
                let query = [("on", on.to_string()), ("to", to.to_string())];
                self.ask("DELETE", "/v1/grants", &query, None)
            }
        };
        let gone: GrantList = parse(&gone?)?;
        Ok(gone.grants)
    }

    fn grants(&mut self, on: Option<&GrantOn>) -> Result<Vec<GrantView>> {
        let query: Vec<_> = on.map(|on| ("on", on.to_string())).into_iter().collect();
        let stand: GrantList = parse(&self.ask("GET", "/v1/grants", &query, None)?)?;
        Ok(stand.grants)
    }

    fn rename(&mut self, from: &Name, to: &Name) -> Result<()> {
        self.send("/v1/rename", &Rename { from: from.to_string(), to: to.to_string() }).map(drop)
    }

    fn import(
        &mut self,
        items: &mut dyn Iterator<Item = Result<ImportItem>>,
        skip_unchanged: bool,
        progress: &mut dyn FnMut(Imported),
    ) -> Result<Imported> {
        let mut imported = Imported::default();
        for item in items {
            let item = vec![item?];
            let changed = if skip_unchanged { unchanged::changed(self, item)? } else { item };
            imported.unchanged += u64::from(changed.is_empty());
            for item in changed {
                self.put(&item.name, &item.token, &item.options)?;
                (imported.tokens, imported.batches) = (imported.tokens + 1, imported.batches + 1);
            }
            progress(imported);
        }
        Ok(imported)
    }

    fn is_restricted(&mut self) -> Result<bool> {
        let caller: WhoAmI = parse(&self.ask("GET", "/v1/whoami", &[], None)?)?;
        Ok(!caller.owner)
    }

    fn destroy(&mut self, name: &Name, version: Option<u64>, reason: &str) -> Result<u64> {
        let mut query = vec![("reason", reason.to_owned())];
        query.extend(version.map(|version| ("version", version.to_string())));
        let done: Destroyed = parse(&self.ask("DELETE", &format!("/v1/tokens/{name}"), &query, None)?)?;
        Ok(done.destroyed)
    }
}
