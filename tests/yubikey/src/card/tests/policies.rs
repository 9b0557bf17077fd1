//! When a key wants the PIN, and when a touch.

use super::{Bench, PIN};
use std::time::Duration;

#[test]
fn once_always_and_never() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    bench.generate(0x82, 1, 1);
    bench.generate(0x83, 2, 1);
    bench.generate(0x84, 3, 1);
    assert_eq!([0x82, 0x83, 0x84].map(|slot| bench.sign(slot).1), [0x9000, 0x6982, 0x6982]);
    bench.verify(PIN);
    assert_eq!([0x84, 0x84, 0x83, 0x83].map(|slot| bench.sign(slot).1), [0x9000, 0x6982, 0x9000, 0x9000]);
}

#[test]
fn slots_have_policies_of_their_own() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    for (slot, pin_policy) in [(0x9a, 2), (0x9c, 3), (0x9d, 2), (0x9e, 1), (0x95, 2)] {
        bench.generate(slot, 0, 0);
        let held = bench.card.memory().slot(slot).unwrap();
        assert_eq!((held.pin_policy, held.touch_policy), (pin_policy, 1), "{slot:02x}");
    }
}

#[test]
fn a_touch_that_does_not_come_looks_like_a_missing_pin() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    bench.generate(0x9d, 1, 2);
    assert_eq!(bench.sign(0x9d).1, 0x6982);
    bench.world.touches = true;
    assert_eq!([bench.sign(0x9d).1, bench.sign(0x9d).1], [0x9000, 0x9000]);
    assert_eq!(bench.world.asked, 3);
}

#[test]
fn a_missing_pin_is_not_touched_for() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    bench.generate(0x9d, 2, 2);
    assert_eq!((bench.sign(0x9d).1, bench.world.asked), (0x6982, 0));
}

#[test]
fn one_touch_lasts_for_fifteen_seconds() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    bench.generate(0x9d, 1, 3);
    bench.world.touches = true;
    for (second, asked) in [(0, 1), (14, 1), (15, 2), (20, 2), (40, 3)] {
        bench.world.now = Duration::from_secs(second);
        assert_eq!((bench.sign(0x9d).1, bench.world.asked), (0x9000, asked), "after {second} s");
    }
    bench.generate(0x9d, 1, 3);
    bench.sign(0x9d);
    assert_eq!(bench.world.asked, 4, "a new key was not touched for yet");
}
