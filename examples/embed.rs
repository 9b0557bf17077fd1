//! A service that signs its webhooks with a key that nobody has ever seen: it makes the key when there is none, and
//! afterwards only asks for it.
//!
//! ```text
//! cargo run --example embed -- 'the message'
//! ```
//!
//! Store and devices are those of the user who runs it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::error::Error;
use strongroom::ledger::Name;
use strongroom::vault::{PutOptions, Setup};
use strongroom::{Kind, Secret, Vault};

const MONTH: u64 = 30 * 24 * 60 * 60 * 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let message = std::env::args().nth(1).ok_or("sign what?")?;
    let name = Name::parse("webhooks/signing-key")?;

    // Verifies what is new in the store. No device is reached yet.
    let mut vault = Vault::open(Setup::of_this_machine()?)?;
    // Logs in to the device, which may ask for its PIN; once for everything that follows.
    let key = match vault.get(&name, None).map(|token| token.value) {
        Err(error) if error.kind() == Kind::NotFound => make_key(&mut vault, &name)?,
        other => other?,
    };

    // `expose` is where the secret leaves its box. The box is wiped when it is dropped.
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    println!("{}", hex::encode(hmac::sign(&key, message.as_bytes())));
    Ok(())
}

/// Puts 32 random bytes, for a month, sealed to every device that may open tokens.
fn make_key(vault: &mut Vault, name: &Name) -> Result<Secret, Box<dyn Error>> {
    let mut bytes = vec![0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "no random bytes")?;
    let key = Secret::new(bytes);
    let options = PutOptions {
        description: Some("made by the service itself".into()),
        labels: Some(vec![("service".into(), "webhooks".into())]),
        expiry: Some(vault.latest_time() + MONTH),
        ..PutOptions::default()
    };
    let put = vault.put(name, &key, &options)?;
    eprintln!("{name} is now at version {}, for {}", put.version, put.recipients.join(", "));
    Ok(key)
}
