//! Counters in the TPM.

use crate::on_swtpm::with_swtpm;
use strongroom::device::TpmOptions;
use strongroom::error::Kind;
use test_support::device_conformance::Bench;
use test_support::tpm_relay::{NV_INCREMENT, Relay, code, refusal};

#[test]
fn a_counter_only_goes_up() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        let mut device = bench.device();
        let counting = device.monotonic_counter().unwrap();
        let (index, start) = counting.make_counter().unwrap();
        assert_eq!(counting.read_counter(index).unwrap(), start);
        assert_eq!(counting.raise_counter(index).unwrap(), start + 1);
        let (other, _) = counting.make_counter().unwrap();
        assert_ne!(index, other);
        drop(device);

        // Also over a session that a key's use has opened.
        let mut device = bench.device();
        bench.opens(&mut *device, &opens);
        let counting = device.monotonic_counter().unwrap();
        assert_eq!(counting.raise_counter(index).unwrap(), start + 2);
        counting.remove_counter(index).unwrap();
        assert_eq!(counting.read_counter(index).unwrap_err().kind(), Kind::KeyMissing);
        bench.opens(&mut *device, &opens);

        // A counter that takes another's index does not begin below it (part 1 §37.2.4.3).
        let (again, anew) = device.monotonic_counter().unwrap().make_counter().unwrap();
        assert_eq!(again, index);
        assert!(anew > start + 2);
        drop(device);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn a_counter_outlives_a_crash() {
    let Some(mut tpm) = test_support::swtpm::Swtpm::new() else { return };
    let connect = |uri: &str| strongroom::device::connect(&uri.parse().unwrap()).unwrap();
    let mut device = connect(&tpm.uri());
    let (index, start) = device.monotonic_counter().unwrap().make_counter().unwrap();
    device.monotonic_counter().unwrap().raise_counter(index).unwrap();
    tpm.kill();
    tpm.start();
    assert_eq!(device.monotonic_counter().unwrap().read_counter(index).unwrap(), start + 1);
}

#[test]
fn a_counter_is_raised_once_though_the_answer_was_lost() {
    with_swtpm(TpmOptions::default(), |bench| {
        let relay = Relay::before(bench.tpm);
        let mut device = bench.through(&relay);
        let (index, start) = device.monotonic_counter().unwrap().make_counter().unwrap();
        // A reset, and an end of the connection.
        for (raised, answer) in [(1, refusal(0x910)), (2, Vec::new())] {
            let mut lost = false;
            relay.act(move |command, forward| {
                let response = forward(command);
                let loses = code(command) == NV_INCREMENT && !std::mem::replace(&mut lost, true);
                if loses { answer.clone() } else { response }
            });
            assert_eq!(device.monotonic_counter().unwrap().raise_counter(index).unwrap(), start + raised);
        }
        drop(device);
        assert_eq!(relay.loaded(), (0, 0));
    });
}

/// What the ledger says is a counter may be anything else in the TPM: nothing of it is read, raised or removed.
#[test]
fn another_index_is_no_counter() {
    let Some(tpm) = test_support::swtpm::Swtpm::new() else { return };
    let mut device = strongroom::device::connect(&tpm.uri().parse().unwrap()).unwrap();
    let index = 0x0180_5300;
    let define = |attributes: &str, size: &str| {
        tpm.tool("tpm2_nvdefine", &["-C", "o", "-a", attributes, "-s", size, &format!("{index:#x}")]);
    };
    let undefine = || tpm.tool("tpm2_nvundefine", &["-C", "o", &format!("{index:#x}")]);
    for (attributes, size) in
        [("ownerread|ownerwrite|no_da", "8"), ("ownerread|ownerwrite|no_da|nt=1|authread", "8")]
    {
        define(attributes, size);
        let counting = device.monotonic_counter().unwrap();
        for error in [
            counting.read_counter(index).unwrap_err(),
            counting.raise_counter(index).unwrap_err(),
            counting.remove_counter(index).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::KeyMissing, "{error}");
            assert!(error.message().contains("the index belongs to another program"), "{error}");
        }
        undefine();
    }
    // Outside of the range that counters are made in.
    assert_eq!(
        device.monotonic_counter().unwrap().read_counter(0x01c0_0002).unwrap_err().kind(),
        Kind::KeyMissing
    );
}
