//! Opens an age file's key for the agent's owner: look up, ask a person where tokens are confirmed, open on a device, record.

use super::Agent;
use crate::agent::confirmation::Question;
use crate::agent::identity::ClientIdentity;
use crate::agent::open_token::Requester;
use crate::error::{Error, Result};
use crate::seal::Stanza;
use crate::secret::Secret;
use crate::vault::{AGE_FILE, Denial, OpenOutcome};
use std::sync::Arc;
use std::time::Instant;

impl Agent {
    /// Opens the key of an age file. Nothing in stanzas shows that they were not taken from a token that a person has to
    /// confirm: so where there are such tokens, every age file is confirmed.
    ///
    /// # Errors
    /// As [`crate::Vault::open_age_file`].
    pub async fn open_age_file(
        &self,
        caller: &ClientIdentity,
        stanzas: Vec<Stanza>,
    ) -> Result<Option<Secret>> {
        let (deadline, locks) = (Instant::now() + self.deadline, self.cache.locks());
        let operation = format!("open {AGE_FILE}");
        let looked = self.reader_for(caller).call(deadline, move |reader| reader.age_file(&stanzas)).await;
        let looked = looked.map_err(|trouble| trouble.into_error(&operation, "the store"))?;
        let (name, opening) = match looked {
            Ok(None) => return Ok(None),
            Err(error) => (AGE_FILE.to_owned(), OpenOutcome::unopened(0, Err(error))),
            Ok(Some((file, confirm))) => {
                let file = Arc::new(file);
                let agreed = self.confirm_age_file(caller, confirm, &operation, deadline).await;
                let opening = match agreed {
                    Err(error) => OpenOutcome::denied(Denial::NotConfirmed, error),
                    Ok(deadline) => {
                        let requester = Requester::Client(caller);
                        self.open_on_devices(&requester, &file, &file.ready.operation(), deadline).await
                    }
                };
                (file.ready.name.clone(), opening)
            }
        };
        self.write_down(caller, &name, &opening).await;
        self.check_unlocked(locks, &operation)?;
        opening.token.map(Some)
    }

    async fn confirm_age_file(
        &self,
        caller: &ClientIdentity,
        confirm: bool,
        operation: &str,
        deadline: Instant,
    ) -> Result<Instant, Error> {
        if !confirm {
            return Ok(deadline);
        }
        let requester = Requester::Client(caller);
        let question =
            Question { client: &requester.client(), program: &requester.program(), token: AGE_FILE };
        self.confirmations.ask(operation, &question, deadline).await?;
        Ok(Instant::now() + self.deadline)
    }
}
