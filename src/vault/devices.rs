//! Devices of this machine: connect, add, renew and retire them; reseal tokens to them; rollback counters.

pub(crate) mod add;
mod adopt;
pub(crate) mod connections;
pub(crate) mod keys;
pub(crate) mod pcr;
pub(crate) mod quorum;
pub(crate) mod renew;
pub(crate) mod reseal;
pub(crate) mod retire;
pub(crate) mod rollback_counter;
