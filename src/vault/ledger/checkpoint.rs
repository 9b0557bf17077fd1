//! Signing checkpoints: a device of this machine witnesses what this machine has verified (docs/reference/format.md,
//! section 10).

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::ledger::verify::Chain;
use crate::ledger::{Checkpoint, DeviceId, SignedCheckpoint};
use crate::prompt::PurposePrompter;
use crate::replica::DeviceRow;
use crate::vault::Vault;
use crate::vault::devices::connections::signing_key;
use crate::vault::devices::keys::signature_of;
use crate::vault::ledger::submit::RequiredRole;
use crate::vault::ledger::witnesses::Standing;

const OPERATION: &str = "sign a checkpoint";

/// What a witness said before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastWord {
    /// Nothing is signed that contradicts it.
    Stands,
    /// A person takes it back.
    TakenBack,
}

impl Vault {
    /// Signs what was verified here with the first device that has the role `witness`, and stores it in the place of
    /// that device's last checkpoint.
    ///
    /// # Errors
    /// `Refused` without such a device; `RolledBack` or `Tampered` where a checkpoint shows withheld news or a fork; the
    /// device's and the store's.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        self.refresh()?;
        let witness = self.author(OPERATION, RequiredRole::Witness)?;
        self.checkpoint_by(&witness, LastWord::Stands)
    }

    /// As [`Vault::checkpoint`], also where the device's last checkpoint, or another's, stands on another history or on more
    /// than the store holds: a person has decided that what was verified here is the right history. Readers open
    /// nothing until every witness that contradicts has done so, or has lost its role.
    ///
    /// # Errors
    /// As [`Vault::checkpoint`], but for `RolledBack` and `Tampered`.
    pub fn checkpoint_anew(&mut self) -> Result<Checkpoint> {
        self.refresh()?;
        let witness = self.author(OPERATION, RequiredRole::Witness)?;
        self.checkpoint_by(&witness, LastWord::TakenBack)
    }

    /// As [`Vault::checkpoint`], with this device.
    ///
    /// # Errors
    /// As [`Vault::checkpoint`].
    pub fn checkpoint_with(&mut self, device: &DeviceId) -> Result<Checkpoint> {
        self.refresh()?;
        let row = self.replica.device_row(device)?;
        match row.filter(|row| row.roles.contains(&crate::ledger::body::Role::Witness)) {
            Some(witness) => self.checkpoint_by(&witness, LastWord::Stands),
            None => Err(Error::new(Kind::Refused, OPERATION, "the device is no witness")),
        }
    }

    fn checkpoint_by(&mut self, witness: &DeviceRow, last: LastWord) -> Result<Checkpoint> {
        // Two processes must not store the older one last.
        let _alone = self.lock_on_this_machine("checkpoint.lock", "lock the checkpoints")?;
        self.refresh()?;
        self.check_anchors(OPERATION)?;
        if last == LastWord::Stands {
            self.expect_no_contradiction(witness)?;
        }
        let position = self.replica.position();
        let checkpoint = Checkpoint {
            store: self.pin.store,
            witness: witness.id,
            position,
            root: self.replica.root(),
            time: (self.clock)(),
            accesses: self.store.access_head(&witness.id)?,
        };
        let signed = self.sign_checkpoint(witness, checkpoint.clone())?;
        failpoint::reach("checkpoint.signed");
        self.store.put_checkpoint(&witness.id, &signed.encode())?;
        if last == LastWord::TakenBack {
            self.replica.forget_witness(&witness.id)?;
        }
        self.replica.take_from(&witness.id, position.n)?;
        Ok(checkpoint)
    }

    /// A witness that is shown old news must not call them fresh, and never takes its own word back.
    fn expect_no_contradiction(&mut self, witness: &DeviceRow) -> Result<()> {
        let witnesses = self.witnesses()?;
        if witnesses.iter().any(|other| matches!(other.standing, Standing::Forked | Standing::Withheld)) {
            return self.check_witnesses(OPERATION).map(drop);
        }
        let (signed, here) = (self.replica.taken_from(&witness.id)?, self.replica.position().n);
        if signed > here {
            let message = format!("it has witnessed statement {signed} before, and the store ends at {here}");
            return Err(Error::new(Kind::RolledBack, OPERATION, message)
                .with_target(witness.enrolment.name.clone())
                .with_hint(
                    "restore the newest copy of the store. If it is lost for good, `strongroom checkpoint --replace` \
                     takes back what was witnessed",
                ));
        }
        Ok(())
    }

    fn sign_checkpoint(&mut self, witness: &DeviceRow, checkpoint: Checkpoint) -> Result<SignedCheckpoint> {
        let key = signing_key(witness);
        let (worker, prompter) = self.devices.get(&witness.id)?;
        let by = signature_of(&key.public, worker.name())?;
        let (own, digest, name) = (key.clone(), checkpoint.digest(by), worker.name().to_owned());
        let mut prompter = PurposePrompter { inner: prompter, purpose: OPERATION, pin_for: None };
        let signature = worker
            .call("sign", &mut prompter, move |device, prompter| device.sign(&own, &digest, prompter))?;
        let signed = checkpoint.sign_with(by, &signature).ok();
        // As its readers will.
        let read = signed.and_then(|signed| SignedCheckpoint::decode(&signed.encode()).ok());
        read.filter(|signed| signed.is_signed_by(&key.public)).ok_or_else(|| {
            Error::new(Kind::KeyMissing, OPERATION, "the signature is not that of the enrolled key")
                .with_target(name)
                .with_hint("the key in the device was replaced: `strongroom device show` tells which one was enrolled")
        })
    }
}
