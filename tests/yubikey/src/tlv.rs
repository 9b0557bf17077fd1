//! BER-TLV (ISO/IEC 7816-4 §5.2.2), which is also all that DER needs: tags of one or two bytes, lengths up to 65,535.

/// Encodes one.
///
/// # Panics
/// When the value is longer than 65,535 bytes: the card makes none.
pub fn encode(tag: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a value of the card's own");
    let mut out = Vec::with_capacity(value.len() + 5);
    match tag.to_be_bytes() {
        [0, tag] => out.push(tag),
        two => out.extend(two),
    }
    match length.to_be_bytes() {
        [0, short @ ..=0x7f] => out.push(short),
        [0, long] => out.extend([0x81, long]),
        [hi, lo] => out.extend([0x82, hi, lo]),
    }
    out.extend_from_slice(value);
    out
}

/// Takes one from the front: tag, value, and what follows.
pub fn take(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (tag, rest) = if first & 0x1f == 0x1f {
        let (&second, rest) = rest.split_first()?;
        (u16::from_be_bytes([first, second]), rest)
    } else {
        (first.into(), rest)
    };
    let (length, rest) = match *rest {
        [length @ ..=0x7f, ref rest @ ..] => (usize::from(length), rest),
        [0x81, length, ref rest @ ..] => (length.into(), rest),
        [0x82, hi, lo, ref rest @ ..] => (u16::from_be_bytes([hi, lo]).into(), rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

/// The value of the first with this tag.
pub fn find(mut bytes: &[u8], tag: u16) -> Option<&[u8]> {
    while let Some((found, value, rest)) = take(bytes) {
        if found == tag {
            return Some(value);
        }
        bytes = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_found() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 3000] {
            let value = vec![7; length];
            let both = [encode(0x53, &[1]), encode(0x7f49, &value)].concat();
            assert_eq!(find(&both, 0x7f49), Some(&value[..]));
            assert_eq!(find(&both, 0x53), Some(&[1][..]));
            assert_eq!(find(&both, 0x54), None);
        }
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        let whole = encode(0x7f49, &[7; 300]);
        for end in 0..whole.len() {
            assert_eq!(take(&whole[..end]), None);
        }
        assert_eq!(take(&[0x53, 0x80]), None, "indefinite length");
    }
}
