//! Proving and changing the management key.

use super::Bench;
use crate::tlv;
use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

pub const FACTORY: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

fn encrypt(cipher: u8, key: &[u8], block: &[u8]) -> Vec<u8> {
    fn with<C: KeyInit + BlockCipherEncrypt>(key: &[u8], block: &[u8]) -> Vec<u8> {
        let mut block = Block::<C>::try_from(block).unwrap();
        C::new_from_slice(key).unwrap().encrypt_block(&mut block);
        block.to_vec()
    }
    match cipher {
        3 => with::<des::TdesEde3>(key, block),
        8 => with::<aes::Aes128>(key, block),
        10 => with::<aes::Aes192>(key, block),
        _ => with::<aes::Aes256>(key, block),
    }
}

/// The host alone proves that it knows the key: the last status word.
pub fn prove(bench: &mut Bench, cipher: u8, key: &[u8]) -> u16 {
    let (answer, status) = bench.send([0x87, cipher, 0x9b], &[0x7c, 2, 0x81, 0]);
    if status != 0x9000 {
        return status;
    }
    let challenge = tlv::find(tlv::find(&answer, 0x7c).unwrap(), 0x81).unwrap().to_vec();
    let response = tlv::encode(0x82, &encrypt(cipher, key, &challenge));
    bench.status([0x87, cipher, 0x9b], &tlv::encode(0x7c, &response))
}

#[test]
fn the_factorys_cipher_depends_on_the_firmware() {
    for (firmware, cipher, other) in [([5, 4, 3], 3, 10), ([5, 7, 1], 10, 3)] {
        let mut bench = Bench::new(firmware);
        assert_eq!(bench.ok([0xf7, 0, 0x9b], &[]), [1, 1, cipher, 2, 2, 0, 1, 5, 1, 1]);
        assert_eq!(prove(&mut bench, other, &FACTORY), 0x6a86);
        assert_eq!(prove(&mut bench, cipher, &FACTORY), 0x9000);
    }
}

#[test]
fn every_cipher_and_only_the_right_key() {
    for (cipher, length) in [(3, 24), (8, 16), (10, 24), (12, 32)] {
        let mut bench = Bench::new([5, 7, 1]);
        let key: Vec<u8> = (1..=length).collect();
        let change = [&[cipher, 0x9b, length][..], &key].concat();
        assert_eq!(bench.status([0xff, 0xff, 0xff], &change), 0x6982);
        bench.manage();
        assert_eq!(bench.status([0xff, 0xff, 0xff], &change[..change.len() - 1]), 0x6a80);
        bench.ok([0xff, 0xff, 0xff], &change);
        bench.card.power_cycle();
        bench.ok([0xa4, 4, 0], &[0xa0, 0, 0, 3, 8]);
        let mut wrong = key.clone();
        wrong[3] ^= 0xf0;
        assert_eq!(prove(&mut bench, cipher, &wrong), 0x6982);
        assert_eq!(bench.status([0x47, 0, 0x9a], &tlv::encode(0xac, &[0x80, 1, 0x11])), 0x6982);
        assert_eq!(prove(&mut bench, cipher, &key), 0x9000);
        assert_eq!(bench.ok([0xf7, 0, 0x9b], &[]), [1, 1, cipher, 2, 2, 0, 1, 5, 1, 0]);
    }
}

#[test]
fn both_sides_prove_themselves() {
    let mut bench = Bench::new([5, 7, 1]);
    let mut witness = || {
        let answer = bench.ok([0x87, 10, 0x9b], &[0x7c, 2, 0x80, 0]);
        let sealed = tlv::find(tlv::find(&answer, 0x7c).unwrap(), 0x80).unwrap();
        let mut block = Block::<aes::Aes192>::try_from(sealed).unwrap();
        aes::Aes192::new_from_slice(&FACTORY).unwrap().decrypt_block(&mut block);
        block.to_vec()
    };
    let (stale, fresh) = (witness(), witness());
    let both = |witness: &[u8]| {
        tlv::encode(0x7c, &[tlv::encode(0x80, witness), tlv::encode(0x81, &[7; 16])].concat())
    };
    let answer = bench.ok([0x87, 10, 0x9b], &both(&fresh));
    assert_eq!(answer, tlv::encode(0x7c, &tlv::encode(0x82, &encrypt(10, &FACTORY, &[7; 16]))));
    bench.generate(0x9a, 0, 0);
    assert_eq!(bench.status([0x87, 10, 0x9b], &both(&fresh)), 0x6985, "a challenge serves once");
    bench.ok([0x87, 10, 0x9b], &[0x7c, 2, 0x80, 0]);
    assert_eq!(bench.status([0x87, 10, 0x9b], &both(&stale)), 0x6982);
    assert_eq!(bench.status([0x47, 0, 0x9a], &tlv::encode(0xac, &[0x80, 1, 0x11])), 0x6982);
}

#[test]
fn a_management_key_may_want_a_touch() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    bench.ok([0xff, 0xff, 0xfe], &[&[10, 0x9b, 24][..], &FACTORY].concat());
    bench.card.power_cycle();
    bench.ok([0xa4, 4, 0], &[0xa0, 0, 0, 3, 8]);
    assert_eq!(prove(&mut bench, 10, &FACTORY), 0x6982);
    bench.world.touches = true;
    assert_eq!(prove(&mut bench, 10, &FACTORY), 0x9000);
}
