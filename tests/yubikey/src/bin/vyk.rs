//! A virtual YubiKey from the command line, until standard input ends.
//!
//! ```text
//! vyk DIRECTORY [--serial N] [--firmware 5.7.1] [--vpcd PORT]
//! ```
//!
//! Its service listens on DIRECTORY/socket, its memory is DIRECTORY/N.json, and the root of its attestations
//! DIRECTORY/root.pem. With `--vpcd` it is also plugged into vpcd's reader at that port. Lines on standard input play the
//! world: `insert`, `remove`, `touch granted`, `touch refused`, `touch late MILLISECONDS`, `restart`.

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use virtual_yubikey::service::{Options, Service, YubiKey};
use virtual_yubikey::touch::Touch;
use virtual_yubikey::vpcd;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vyk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let service = Service::start(&arguments.directory)?;
    let yubikey = service.add(&arguments.options)?;
    std::fs::write(arguments.directory.join("root.pem"), yubikey.authority().pem())?;
    let _plugged = arguments.vpcd.map(|port| vpcd::plug(yubikey.body(), port)).transpose()?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        play(&yubikey, &line?);
    }
    Ok(())
}

fn play(yubikey: &YubiKey, line: &str) {
    match *line.split_whitespace().collect::<Vec<_>>() {
        [] => {}
        ["insert"] => yubikey.insert(),
        ["remove"] => yubikey.remove(),
        ["restart"] => yubikey.service().restart(),
        ["touch", "granted"] => yubikey.touch(Touch::Granted),
        ["touch", "refused"] => yubikey.touch(Touch::Refused),
        ["touch", "late", after] => match after.parse() {
            Ok(after) => yubikey.touch(Touch::Late(Duration::from_millis(after))),
            Err(error) => eprintln!("vyk: {after}: {error}"),
        },
        _ => eprintln!("vyk: {line}: not understood"),
    }
}

struct Arguments {
    directory: PathBuf,
    options: Options,
    vpcd: Option<u16>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut parsed = Self { directory: PathBuf::new(), options: Options::default(), vpcd: None };
        // Somebody who plays with it wants the time that hardware gives.
        parsed.options.patience = Duration::from_secs(15);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments.next().ok_or_else(|| io::Error::other(format!("{argument}: a value is missing")))
            };
            match argument.as_str() {
                "--serial" => parsed.options.serial = value()?.parse().map_err(io::Error::other)?,
                "--vpcd" => parsed.vpcd = Some(value()?.parse().map_err(io::Error::other)?),
                "--firmware" => {
                    let numbers: Result<Vec<u8>, _> = value()?.split('.').map(str::parse).collect();
                    let numbers = numbers.map_err(io::Error::other)?.try_into();
                    parsed.options.firmware =
                        numbers.map_err(|_| io::Error::other("--firmware: three numbers"))?;
                }
                directory => parsed.directory = directory.into(),
            }
        }
        Ok(parsed)
    }
}
