//! BER-TLV as PIV objects use it (SP 800-73-4 part 1 appendix A): one-byte tags, lengths of at most two bytes.

/// The value of the first element with this tag.
pub fn value(mut bytes: &[u8], tag: u8) -> Option<&[u8]> {
    while let Some((found, value, rest)) = split(bytes) {
        if found == tag {
            return Some(value);
        }
        bytes = rest;
    }
    None
}

/// The first element's tag and value, and what follows it.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = match rest {
        [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [length @ ..=0x7f, rest @ ..] => (usize::from(*length), rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

/// Appends an element. Values of 64 KiB and more do not occur: objects have at most 3 KiB.
pub fn push(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    match value.len() {
        length @ ..=0x7f => out.push(length as u8),
        length @ ..=0xff => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_found() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 3000] {
            let mut object = Vec::new();
            push(&mut object, 0x71, &[1]);
            push(&mut object, 0x70, &vec![7; length]);
            assert_eq!(value(&object, 0x70), Some(&vec![7; length][..]), "{length}");
            assert_eq!(value(&object, 0xfe), None);
        }
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        for cut in [&[][..], &[0x70], &[0x70, 1], &[0x70, 0x81], &[0x70, 0x82, 1], &[0x70, 0x83, 0, 0, 1, 9]]
        {
            assert_eq!(value(cut, 0x70), None, "{cut:?}");
        }
    }
}
