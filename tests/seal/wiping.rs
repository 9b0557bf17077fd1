//! What is left of a token in memory once it was sealed, opened and dropped.

use crate::keys::{CONTEXT, SoftKey, seal_to};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use strongroom::Secret;

/// The token stands nowhere in this program but where `token` writes it: this is its mask.
const MASK: u8 = 0x55;

/// A token is this many marks, so that some outlive what the allocator itself writes into freed blocks.
const MARKS: usize = 1000;

fn masked(salt: u8) -> [u8; 48] {
    std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ salt ^ MASK)
}

fn token(salt: u8) -> Secret {
    let mut bytes = Vec::with_capacity(48 * MARKS);
    (0..MARKS).for_each(|_| bytes.extend(masked(salt).iter().map(|byte| byte ^ MASK)));
    Secret::new(bytes)
}

/// How often a mark, or a half of it, stands in this process's writable memory. This thread's stack is left out: the last
/// block that a cipher worked on stays there until the next call overwrites it.
fn copies(salt: u8) -> usize {
    let needle = masked(salt);
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut page = vec![0; 4096 + 24];
    let mut count = 0;
    for region in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = region.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        if (start..end).contains(&(&raw const needle as u64)) {
            continue;
        }
        for address in (start..end).step_by(4096) {
            // The scan's own buffer shows whatever page was read before.
            page.fill(0);
            let Ok(read) = memory.read_at(&mut page, address) else { continue };
            let is_half = |window: &[u8]| {
                let unmasked = |half: &[u8]| window.iter().zip(half).all(|(a, b)| a ^ MASK == *b);
                unmasked(&needle[..24]) || unmasked(&needle[24..])
            };
            count += page[..read].windows(24).filter(|window| is_half(window)).count();
        }
    }
    count
}

#[test]
fn a_dropped_token_is_gone_from_memory() {
    let key = SoftKey::p256();
    let secret = token(1);
    assert!(copies(1) >= MARKS, "the search does not find what is there");
    drop(secret);
    assert_eq!(copies(1), 0);

    let sealed = {
        let secret = token(2);
        seal_to(&[&key], secret.expose(), &CONTEXT).unwrap()
    };
    assert_eq!(copies(2), 0, "after sealing");
    drop(key.open(&sealed, &CONTEXT).unwrap());
    assert_eq!(copies(2), 0, "after opening");
}
