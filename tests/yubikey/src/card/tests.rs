//! The card by itself: no PC/SC, no files.

use super::*;
use crate::key::Key;
use p256::ecdsa::signature::hazmat::PrehashVerifier;

mod certificates;
mod counters;
mod management_key;
mod policies;

/// A card without a reader, and a hand that does as it is told.
struct Bench {
    card: Card,
    world: TestStore,
}

#[derive(Default)]
struct TestStore {
    touches: bool,
    asked: usize,
    now: Duration,
}

impl Surroundings for TestStore {
    fn touched(&mut self) -> bool {
        self.asked += 1;
        self.touches
    }

    fn now(&self) -> Duration {
        self.now
    }
}

const PIN: &[u8] = b"123456\xff\xff";
const PUK: &[u8] = b"12345678";
const WRONG: &[u8] = b"000000\xff\xff";

impl Bench {
    fn new(firmware: [u8; 3]) -> Self {
        let card = Card::new(Profile { serial: 10_001, firmware }, &simulator_root(), 1);
        let mut bench = Self { card, world: TestStore::default() };
        bench.ok([0xa4, 4, 0], &[0xa0, 0, 0, 3, 8]);
        bench
    }

    /// Sends a command in as many pieces as the short form needs, and fetches the whole answer.
    fn send(&mut self, [ins, p1, p2]: [u8; 3], data: &[u8]) -> (Vec<u8>, u16) {
        let mut pieces = data.chunks(255).peekable();
        let mut answer = Vec::new();
        let mut apdu = vec![0, ins, p1, p2];
        loop {
            if let Some(piece) = pieces.next() {
                let class = if pieces.peek().is_some() { 0x10 } else { 0 };
                apdu = [&[class, ins, p1, p2, piece.len() as u8], piece].concat();
            }
            let got = self.card.transmit(&apdu, &mut self.world);
            let (body, status) = got.split_at(got.len() - 2);
            answer.extend_from_slice(body);
            match status {
                [0x61, _] => apdu = vec![0, 0xc0, 0, 0, 0],
                [0x90, 0] if pieces.peek().is_some() => {}
                &[high, low] => return (answer, u16::from_be_bytes([high, low])),
                _ => unreachable!(),
            }
        }
    }

    fn ok(&mut self, command: [u8; 3], data: &[u8]) -> Vec<u8> {
        let (answer, status) = self.send(command, data);
        assert_eq!(status, 0x9000, "{command:02x?}");
        answer
    }

    fn status(&mut self, command: [u8; 3], data: &[u8]) -> u16 {
        self.send(command, data).1
    }

    fn verify(&mut self, pin: &[u8]) -> u16 {
        self.status([0x20, 0, 0x80], pin)
    }

    /// Proves the factory's management key, as a host does.
    fn manage(&mut self) {
        let cipher = if self.card.profile.firmware >= [5, 7, 0] { 10 } else { 3 };
        assert_eq!(management_key::prove(self, cipher, &management_key::FACTORY), 0x9000);
    }

    /// Makes a P-256 key: its point.
    fn generate(&mut self, slot: u8, pin_policy: u8, touch_policy: u8) -> Vec<u8> {
        let template = tlv::encode(0xac, &[0x80, 1, 0x11, 0xaa, 1, pin_policy, 0xab, 1, touch_policy]);
        let answer = self.ok([0x47, 0, slot], &template);
        tlv::find(tlv::find(&answer, 0x7f49).unwrap(), 0x86).unwrap().to_vec()
    }

    fn sign(&mut self, slot: u8) -> (Vec<u8>, u16) {
        self.send([0x87, 0x11, slot], &tlv::encode(0x7c, &[&[0x82, 0, 0x81, 32][..], &[7; 32]].concat()))
    }
}

#[test]
fn signatures_verify_and_agreements_agree() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    let point = bench.generate(0x9c, 0, 0);
    assert_eq!(bench.sign(0x9c).1, 0x6982, "the PIN first");
    assert_eq!(bench.verify(PIN), 0x9000);
    let (answer, status) = bench.sign(0x9c);
    assert_eq!(status, 0x9000);
    let signature = tlv::find(tlv::find(&answer, 0x7c).unwrap(), 0x82).unwrap();
    let verifier = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
    verifier.verify_prehash(&[7; 32], &p256::ecdsa::Signature::from_der(signature).unwrap()).unwrap();

    let point = bench.generate(0x82, 1, 1);
    let peer = Key::generate(crate::key::Algorithm::P256, &mut StdRng::seed_from_u64(9), 0).unwrap();
    let template = tlv::encode(0x7c, &[&[0x82, 0][..], &tlv::encode(0x85, &peer.point())].concat());
    let answer = bench.ok([0x87, 0x11, 0x82], &template);
    assert_eq!(tlv::find(tlv::find(&answer, 0x7c).unwrap(), 0x82).unwrap(), peer.agree(&point).unwrap());
    assert_eq!(bench.card.private_operations(), 2);
}

#[test]
fn long_objects_come_and_go_in_pieces() {
    let mut bench = Bench::new([5, 4, 3]);
    let name = [0x5c, 3, 0x5f, 0xc1, 0x05];
    let put = |length: usize| [&name[..], &tlv::encode(0x53, &vec![7; length])].concat();
    assert_eq!(bench.status([0xdb, 0x3f, 0xff], &put(3)), 0x6982, "the management key first");
    bench.manage();
    bench.ok([0xdb, 0x3f, 0xff], &put(3000));
    assert_eq!(bench.ok([0xcb, 0x3f, 0xff], &name), tlv::encode(0x53, &[7; 3000]));
    assert_eq!(bench.status([0xdb, 0x3f, 0xff], &put(3100)), 0x6700);
    bench.ok([0xdb, 0x3f, 0xff], &put(0));
    assert_eq!(bench.status([0xcb, 0x3f, 0xff], &name), 0x6a82);
}

#[test]
fn a_chain_that_is_broken_off_leaves_nothing() {
    let mut bench = Bench::new([5, 7, 1]);
    let first = [&[0x10, 0x20, 0, 0x80, 4][..], &PIN[..4]].concat();
    assert_eq!(bench.card.transmit(&first, &mut bench.world), [0x90, 0]);
    bench.ok([0xfd, 0, 0], &[]);
    assert_eq!(bench.verify(&PIN[4..]), 0x6a80);
    assert_eq!(bench.verify(&[]), 0x63c3, "no try was used up");
}

#[test]
fn extended_answers_come_in_one_piece() {
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    bench.generate(0x9a, 0, 0);
    let whole = bench.card.transmit(&[0, 0xf9, 0x9a, 0, 0, 0, 0], &mut bench.world);
    assert!(whole.len() > 400 && whole.ends_with(&[0x90, 0]));
}

#[test]
fn what_a_card_does_follows_from_its_seed() {
    let mut twins = [Bench::new([5, 7, 1]), Bench::new([5, 7, 1])];
    let points = twins.each_mut().map(|twin| {
        twin.manage();
        (twin.generate(0x9d, 0, 0), twin.ok([0xf9, 0x9d, 0], &[]))
    });
    assert_eq!(points[0], points[1]);
}

#[test]
fn memory_outlasts_the_power() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("memory");
    assert!(Memory::load(&file).unwrap().is_none());
    let mut bench = Bench::new([5, 7, 1]);
    bench.manage();
    let point = bench.generate(0x9d, 2, 1);
    bench.verify(WRONG);
    bench.card.take_changes().unwrap().store(&file).unwrap();
    assert!(bench.card.take_changes().is_none());
    bench.ok([0xfd, 0, 0], &[]);
    assert!(bench.card.take_changes().is_none(), "a question changes nothing");

    let memory = Memory::load(&file).unwrap().unwrap();
    bench.card = Card::restore(bench.card.profile(), memory, 5);
    bench.ok([0xa4, 4, 0], &[0xa0, 0, 0, 3, 8]);
    assert_eq!(bench.verify(&[]), 0x63c2);
    let metadata = bench.ok([0xf7, 0, 0x9d], &[]);
    assert_eq!(tlv::find(&metadata, 4), Some(&tlv::encode(0x86, &point)[..]));
    std::fs::write(&file, "{").unwrap();
    assert!(Memory::load(&file).is_err());
}

#[test]
fn what_it_does_not_know_it_refuses() {
    let mut bench = Bench::new([5, 4, 3]);
    assert_eq!(bench.status([0xf6, 0x9a, 0x9c], &[]), 0x6d00, "MOVE KEY is of 5.7");
    assert_eq!(bench.status([0x77, 0, 0], &[]), 0x6d00);
    assert_eq!(bench.status([0xa4, 4, 0], &[0xa0, 0, 0, 6, 0x47]), 0x6a82);
    bench.manage();
    let with = |algorithm| tlv::encode(0xac, &[0x80, 1, algorithm]);
    assert_eq!(bench.status([0x47, 0, 0x9a], &with(0x05)), 0x6a80, "RSA-3072 is of 5.7");
    assert_eq!(bench.status([0x47, 0, 0x96], &with(0x11)), 0x6b00);
    assert_eq!(bench.sign(0x9a).1, 0x6a88);
    bench.card.power_cycle();
    assert_eq!(bench.verify(PIN), 0x6d00, "nothing is selected");
}
