//! The connection: commands and responses as bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

/// tpm2-tss has the same limit (TPM2_MAX_RESPONSE_SIZE).
const LARGEST: usize = 4096;
/// Tag, size, code: part 1 §18.
const HEADER: usize = 10;

/// Where a TPM takes commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The kernel's device file.
    Device(PathBuf),
    /// swtpm's port for commands.
    Swtpm(String, u16),
}

impl Address {
    /// The address in a TCTI of tpm2-tss; `None` for one that only tpm2-tss knows.
    pub fn from_tcti(tcti: &str) -> Option<Self> {
        match tcti.split_once(':').unwrap_or((tcti, "")) {
            ("device", path) => Some(Self::Device(path.into())),
            ("swtpm", settings) => {
                let (mut host, mut port) = ("localhost".to_owned(), 2321);
                for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
                    match setting.split_once('=')? {
                        ("host", named) => host = named.into(),
                        ("port", number) => port = number.parse().ok()?,
                        _ => return None,
                    }
                }
                Some(Self::Swtpm(host, port))
            }
            _ => None,
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(&self) -> io::Result<Box<dyn Wire>> {
        Ok(match self {
            Self::Device(path) => Box::new(Device(OpenOptions::new().read(true).write(true).open(path)?)),
            Self::Swtpm(host, port) => {
                let address = (host.clone(), *port);
                let next = Some(Swtpm::dial(&address)?);
                Box::new(Swtpm { address, next })
            }
        })
    }
}

/// A connection.
pub trait Wire: Send {
    /// Sends a command and waits for the response.
    ///
    /// # Errors
    /// The system's; `InvalidData` for a response whose size is not what it says.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// Takes a command by one write and gives its response by one read.
struct Device(File);

impl Wire for Device {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut response = vec![0; LARGEST];
        let read = loop {
            match self.0.read(&mut response) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        response.truncate(read);
        if size(&response)? == read { Ok(response) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// A connection for each command: swtpm serves one at a time, and others want to use it, too.
struct Swtpm {
    /// Host and port.
    address: (String, u16),
    /// The connection for the next command, if there is one already.
    next: Option<TcpStream>,
}

impl Swtpm {
    fn dial((host, port): &(String, u16)) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((host.as_str(), *port))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Wire for Swtpm {
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = match self.next.take() {
            Some(stream) => stream,
            None => Self::dial(&self.address)?,
        };
        stream.write_all(command)?;
        frame(&mut stream)
    }
}

/// Reads a response from a stream.
pub fn frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut response = vec![0; HEADER];
    stream.read_exact(&mut response)?;
    response.resize(size(&response)?, 0);
    stream.read_exact(&mut response[HEADER..])?;
    Ok(response)
}

/// responseSize, within its limits.
fn size(response: &[u8]) -> io::Result<usize> {
    let size = response.get(2..6).and_then(|size| size.try_into().ok()).map(u32::from_be_bytes);
    let size = size.and_then(|size| usize::try_from(size).ok());
    size.filter(|size| (HEADER..=LARGEST).contains(size)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_tpm2_tss_reads_it() {
        let swtpm = |host: &str, port| Some(Address::Swtpm(host.into(), port));
        for (tcti, address) in [
            ("device:/dev/tpmrm0", Some(Address::Device("/dev/tpmrm0".into()))),
            ("swtpm:host=127.0.0.1,port=2400", swtpm("127.0.0.1", 2400)),
            ("swtpm:port=2400", swtpm("localhost", 2400)),
            ("swtpm", swtpm("localhost", 2321)),
            ("swtpm:path=/run/swtpm", None),
            ("swtpm:port=x", None),
            ("tabrmd:bus_type=system", None),
            ("mssim:host=localhost,port=2321", None),
        ] {
            assert_eq!(Address::from_tcti(tcti), address, "{tcti}");
        }
    }

    /// A named pipe gives back what is written to it: the command is its own response.
    #[test]
    fn a_device_file_gives_its_response_by_one_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tpm0");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut wire = Address::Device(path).connect().unwrap();
        let response = hex::decode("80010000000a00000922").unwrap();
        assert_eq!(wire.exchange(&response).unwrap(), response);
        let cut = wire.exchange(&response[..9]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData);
        let long = wire.exchange(&[&response[..], &[0]].concat()).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_response_that_lies_about_its_size_is_refused() {
        for (response, right) in [
            ("8001 0000000a 00000000", true),
            ("8001 00000009 00000000", false),
            ("8001 00001001 00000000", false),
        ] {
            let response = hex::decode(response.replace(' ', "")).unwrap();
            assert_eq!(size(&response).is_ok(), right);
        }
        assert!(size(&[0x80, 1]).is_err());
    }
}
