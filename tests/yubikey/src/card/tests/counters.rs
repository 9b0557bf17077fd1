//! PIN and PUK run out, one by one, and come back.

use super::{Bench, PIN, PUK, WRONG};

const OTHER: &[u8] = b"654321\xff\xff";

#[test]
fn the_pin_blocks_and_the_puk_unblocks_it() {
    let mut bench = Bench::new([5, 7, 1]);
    assert_eq!(bench.verify(&[]), 0x63c3);
    assert_eq!([WRONG, WRONG, PIN].map(|pin| bench.verify(pin)), [0x63c2, 0x63c1, 0x9000]);
    assert_eq!(bench.verify(&[]), 0x9000);
    assert_eq!([WRONG, WRONG, WRONG, PIN].map(|pin| bench.verify(pin)), [0x63c2, 0x63c1, 0x6983, 0x6983]);
    assert_eq!(bench.verify(&[]), 0x6983);
    assert_eq!(bench.status([0x2c, 0, 0x80], &[WRONG, OTHER].concat()), 0x63c2);
    bench.ok([0x2c, 0, 0x80], &[PUK, OTHER].concat());
    assert_eq!(bench.verify(OTHER), 0x9000);
    assert_eq!(bench.verify(PIN), 0x63c2);
}

#[test]
fn pin_and_puk_change_only_with_the_old_one() {
    let mut bench = Bench::new([5, 7, 1]);
    assert_eq!(bench.status([0x24, 0, 0x80], &[WRONG, OTHER].concat()), 0x63c2);
    bench.ok([0x24, 0, 0x80], &[PIN, OTHER].concat());
    bench.ok([0x24, 0, 0x81], &[PUK, b"87654321"].concat());
    assert_eq!(bench.verify(OTHER), 0x9000);
    for bad in [&b"12345\xff\xff\xff"[..], b"1234\xff6\xff\xff", b"123456"] {
        assert_eq!(bench.status([0x24, 0, 0x80], &[OTHER, bad].concat()), 0x6a80, "{bad:?}");
    }
    let metadata = bench.ok([0xf7, 0, 0x80], &[]);
    assert_eq!(metadata, [1, 1, 0xff, 5, 1, 0, 6, 2, 3, 3], "no longer the factory's");
    assert_eq!(bench.ok([0xf7, 0, 0x81], &[]), [1, 1, 0xff, 5, 1, 0, 6, 2, 3, 3]);
}

#[test]
fn only_a_card_with_nothing_left_is_reset() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    bench.generate(0x9a, 0, 0);
    assert_eq!(bench.status([0xfb, 0, 0], &[]), 0x6985);
    for _ in 0..3 {
        bench.verify(WRONG);
        bench.status([0x2c, 0, 0x80], &[WRONG, OTHER].concat());
    }
    assert_eq!(bench.status([0x2c, 0, 0x80], &[PUK, OTHER].concat()), 0x6983);
    bench.ok([0xfb, 0, 0], &[]);
    assert_eq!(bench.verify(PIN), 0x9000);
    assert_eq!(bench.sign(0x9a).1, 0x6a88, "keys are gone");
    bench.ok([0xcb, 0x3f, 0xff], &[0x5c, 3, 0x5f, 0xff, 1]);
}

#[test]
fn the_number_of_tries_can_be_set() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    assert_eq!(bench.status([0xfa, 5, 2], &[]), 0x6982, "the PIN as well");
    bench.verify(PIN);
    bench.ok([0xfa, 5, 2], &[]);
    bench.card.power_cycle();
    bench.ok([0xa4, 4, 0], &[0xa0, 0, 0, 3, 8]);
    assert_eq!(bench.verify(&[]), 0x63c5);
}

#[test]
fn losing_power_forgets_that_the_pin_was_given_but_not_the_tries() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.verify(WRONG);
    bench.card.power_cycle();
    bench.ok([0xa4, 4, 0], &[0xa0, 0, 0, 3, 8]);
    assert_eq!(bench.verify(&[]), 0x63c2);
    assert_eq!(bench.verify(PIN), 0x9000);
    bench.ok([0x20, 0xff, 0x80], &[]);
    assert_eq!(bench.verify(&[]), 0x63c3);
    bench.verify(PIN);
    bench.ok([0xa4, 4, 0], &[0xa0, 0, 0, 3, 8]);
    assert_eq!(bench.verify(&[]), 0x63c3, "selecting anew forgets it too");
}
