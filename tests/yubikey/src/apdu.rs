//! Command APDUs and status words (ISO/IEC 7816-4 §5).

use std::fmt;

/// A command APDU, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// CLA; bit 0x10 says that more of the same command follows (§5.3.3, command chaining).
    pub class: u8,
    /// INS.
    pub instruction: u8,
    /// P1.
    pub p1: u8,
    /// P2.
    pub p2: u8,
    /// The command's data, at most 65,535 bytes.
    pub data: &'a [u8],
    /// How many bytes of answer are taken at once: 256 or 65,536 where the command leaves it open.
    pub expected: usize,
}

impl<'a> Command<'a> {
    /// Parses the short and the extended form, all four cases (§5.2).
    ///
    /// # Errors
    /// `WRONG_LENGTH` when the length fields contradict the bytes that are there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Status> {
        let Some((&[class, instruction, p1, p2], body)) = bytes.split_first_chunk::<4>() else {
            return Err(Status::WRONG_LENGTH);
        };
        let (data, expected) = match *body {
            [] => (&body[..0], 256),
            [le] => (&body[..0], short(le)),
            [0, hi, lo] => (&body[..0], extended(hi, lo)),
            [0, hi, lo, ref rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([hi, lo]));
                match rest.split_at_checked(length) {
                    Some((data, [])) => (data, 65_536),
                    Some((data, &[hi, lo])) => (data, extended(hi, lo)),
                    _ => return Err(Status::WRONG_LENGTH),
                }
            }
            [lc, ref rest @ ..] => match rest.split_at_checked(usize::from(lc)) {
                Some((data, [])) => (data, 256),
                Some((data, &[le])) => (data, short(le)),
                _ => return Err(Status::WRONG_LENGTH),
            },
        };
        Ok(Self { class, instruction, p1, p2, data, expected })
    }

    /// Whether more of the same command follows.
    pub fn is_chained(&self) -> bool {
        self.class & 0x10 != 0
    }
}

fn short(le: u8) -> usize {
    if le == 0 { 256 } else { le.into() }
}

fn extended(hi: u8, lo: u8) -> usize {
    match u16::from_be_bytes([hi, lo]) {
        0 => 65_536,
        le => le.into(),
    }
}

/// A status word: SW1 and SW2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// Done.
    pub const OK: Self = Self(0x9000);
    /// The length fields are wrong.
    pub const WRONG_LENGTH: Self = Self(0x6700);
    /// The PIN, the management key or a touch is missing.
    pub const SECURITY: Self = Self(0x6982);
    /// The PIN or PUK has no tries left.
    pub const BLOCKED: Self = Self(0x6983);
    /// Not now.
    pub const CONDITIONS: Self = Self(0x6985);
    /// The data makes no sense.
    pub const BAD_DATA: Self = Self(0x6a80);
    /// No such applet or object.
    pub const NOT_FOUND: Self = Self(0x6a82);
    /// No room.
    pub const NO_MEMORY: Self = Self(0x6a84);
    /// P1 or P2 makes no sense.
    pub const BAD_PARAMETERS: Self = Self(0x6a86);
    /// No such PIN, or no key in that slot.
    pub const REFERENCE_NOT_FOUND: Self = Self(0x6a88);
    /// No such slot.
    pub const WRONG_SLOT: Self = Self(0x6b00);
    /// No such instruction.
    pub const BAD_INSTRUCTION: Self = Self(0x6d00);

    /// A wrong PIN or PUK, with so many tries left.
    pub fn tries_left(tries: u8) -> Self {
        Self(0x63c0 | u16::from(tries.min(15)))
    }

    /// More of the answer waits for GET RESPONSE.
    pub fn more(bytes: usize) -> Self {
        Self(0x6100 | if bytes < 256 { bytes as u16 } else { 0 })
    }

    /// SW1 and SW2.
    pub fn bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_and_expected(bytes: &[u8]) -> (Vec<u8>, usize) {
        let command = Command::parse(bytes).unwrap();
        (command.data.to_vec(), command.expected)
    }

    #[test]
    fn all_cases_of_both_forms() {
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0]), (vec![], 256));
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0, 0]), (vec![], 256));
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0, 7]), (vec![], 7));
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0, 2, 8, 9]), (vec![8, 9], 256));
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0, 2, 8, 9, 3]), (vec![8, 9], 3));
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0, 0, 1, 2]), (vec![], 258));
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0, 0, 0, 0]), (vec![], 65_536));
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0, 0, 0, 2, 8, 9]), (vec![8, 9], 65_536));
        assert_eq!(data_and_expected(&[0, 0xa4, 4, 0, 0, 0, 2, 8, 9, 1, 0]), (vec![8, 9], 256));
    }

    #[test]
    fn lengths_that_contradict_the_bytes_are_refused() {
        for bytes in [&[][..], &[0, 1, 2], &[0, 0, 0, 0, 2, 8], &[0, 0, 0, 0, 1, 8, 9, 9]] {
            assert_eq!(Command::parse(bytes), Err(Status::WRONG_LENGTH), "{bytes:?}");
        }
        assert_eq!(Command::parse(&[0, 0, 0, 0, 0, 0, 3, 8, 9]), Err(Status::WRONG_LENGTH));
    }
}
