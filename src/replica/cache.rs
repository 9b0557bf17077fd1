//! A cache of repeated replica queries, cleared by every change they depend on.

use super::DeviceRow;
use crate::ledger::body::Settings;
use crate::ledger::judge::{DeviceState, TokenState};
use crate::ledger::{DeviceId, Hash, TokenId};
use std::collections::HashMap;
use std::sync::Arc;

/// A token's head and state.
pub(super) type TokenLine = (Hash, TokenState);

/// A name's head, and whether a living token has it.
pub(super) type NameLine = (Hash, bool);

#[derive(Default)]
pub(super) struct Cache {
    /// Devices as the rules see them.
    pub(super) devices: HashMap<DeviceId, DeviceState>,
    /// Devices as they are listed.
    pub(super) rows: HashMap<DeviceId, DeviceRow>,
    /// The store's settings.
    pub(super) settings: Option<Settings>,
    /// The devices with the role `witness`, each with its name.
    pub(super) witnesses: Option<Arc<[(DeviceId, String)]>>,
    /// Rows of the sets of recipients.
    pub(super) recipients: HashMap<Vec<u8>, i64>,
    /// The last token looked up: the rules ask twice.
    pub(super) token: Option<(TokenId, Option<TokenLine>)>,
    /// The last name looked up.
    pub(super) name: Option<(String, Option<NameLine>)>,
}

impl Cache {
    /// Before any change.
    pub(super) fn forget_lines(&mut self) {
        (self.token, self.name) = (None, None);
    }

    /// After a change of devices.
    pub(super) fn forget_devices(&mut self) {
        self.devices.clear();
        self.rows.clear();
        self.settings = None;
        self.witnesses = None;
    }
}
