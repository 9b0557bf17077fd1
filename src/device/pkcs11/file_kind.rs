//! Reads from the ELF header why a file cannot be loaded as a module. The dynamic linker's message names neither architecture.

use std::io::Read;
use std::path::Path;

/// The kind of a file that did not load.
#[derive(Debug, PartialEq, Eq)]
pub enum FileKind {
    /// There is no such file.
    Missing,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// Not an ELF file at all.
    NotALibrary,
    /// An ELF file for another machine: the file's architecture, and this program's.
    OtherArchitecture(String, String),
    /// An ELF file for this machine.
    Library,
}

/// Reads a file's first bytes.
pub fn inspect(path: &Path) -> FileKind {
    let mut header = [0; 20];
    match std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => FileKind::Missing,
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => FileKind::NotALibrary,
        Err(e) if e.kind() == std::io::ErrorKind::IsADirectory => FileKind::NotALibrary,
        Err(e) => FileKind::Unreadable(e.to_string()),
        Ok(()) => classify(&header),
    }
}

/// The ELF identification (class at 4, byte order at 5) and `e_machine` (at 18).
fn classify(header: &[u8; 20]) -> FileKind {
    if !header.starts_with(b"\x7fELF") {
        return FileKind::NotALibrary;
    }
    let machine = [header[18], header[19]];
    let machine = if header[5] == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    let bits = if header[4] == 2 { 64 } else { 32 };
    let file = format!("{} ({bits} bits)", machine_name(machine));
    let own = format!("{} ({} bits)", own_machine(), usize::BITS);
    if file == own { FileKind::Library } else { FileKind::OtherArchitecture(file, own) }
}

/// `e_machine` in the names that Rust and Linux use.
fn machine_name(machine: u16) -> String {
    match machine {
        3 => "x86".into(),
        8 => "mips".into(),
        20 => "powerpc".into(),
        21 => "powerpc64".into(),
        22 => "s390x".into(),
        40 => "arm".into(),
        62 => "x86_64".into(),
        183 => "aarch64".into(),
        243 => "riscv64".into(),
        258 => "loongarch64".into(),
        other => format!("ELF machine {other}"),
    }
}

fn own_machine() -> &'static str {
    std::env::consts::ARCH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, order: u8, machine: [u8; 2]) -> [u8; 20] {
        let mut header = [0; 20];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order]);
        header[18..].copy_from_slice(&machine);
        header
    }

    #[test]
    fn other_machines_are_named() {
        let FileKind::OtherArchitecture(file, _) = classify(&header(2, 2, [0, 22])) else { panic!() };
        assert_eq!(file, "s390x (64 bits)");
        let FileKind::OtherArchitecture(file, _) = classify(&header(1, 1, [40, 0])) else { panic!() };
        assert_eq!(file, "arm (32 bits)");
    }

    #[test]
    fn this_machine_is_recognised() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(inspect(&own), FileKind::Library);
        assert_eq!(inspect(Path::new("/nonexistent/module.so")), FileKind::Missing);
        assert_eq!(inspect(Path::new("/")), FileKind::NotALibrary);
        assert_eq!(classify(&[0; 20]), FileKind::NotALibrary);
    }
}
