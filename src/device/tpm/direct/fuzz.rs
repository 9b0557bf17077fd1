//! For the fuzz target: a client before a TPM that says anything.

use super::wire::{Wire, frame};
use super::{Commands, Direct};
use crate::device::Purpose;
use crate::device::tpm::pcr::Bank;
use crate::device::tpm::templates::SRK;
use std::io;

/// Plays responses that follow one another in some bytes.
struct Played(io::Cursor<Vec<u8>>);

impl Wire for Played {
    fn exchange(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
        frame(&mut self.0)
    }
}

/// Takes some bytes for the responses to everything that is asked of a TPM. Whether one was believed that an HMAC should have
/// protected, which nobody can make without the session's key.
#[doc(hidden)]
pub fn fuzz_responses(bytes: &[u8]) -> bool {
    let mut tpm = Direct::new(Box::new(Played(io::Cursor::new(bytes.to_vec()))));
    let Ok(Some((key, _))) = tpm.persistent(SRK) else { return false };
    let _ = tpm.handles(0);
    let _ = tpm.properties(0, 1);
    let _ = tpm.pcr_read(Bank::Sha256, &[7]);
    if tpm.start_session(key).is_err() {
        return false;
    }
    let _ = tpm.policy_command_code(Purpose::Open);
    let opened = tpm.ecdh_z_gen(key, None, &[4; 65]).is_ok();
    opened || tpm.sign(key, None, &[0; 32]).is_ok()
}
