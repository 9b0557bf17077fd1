//! Counters in the TPM.

use crate::bench::with_swtpm;
use crate::conformance::Bench;
use strongroom::device::TpmOptions;
use strongroom::error::Kind;

#[test]
fn a_counter_only_goes_up() {
    with_swtpm(TpmOptions::default(), |bench| {
        let (opens, _) = bench.keys();
        let mut device = bench.device();
        let counting = device.counting().unwrap();
        let (index, start) = counting.make_counter().unwrap();
        assert_eq!(counting.read_counter(index).unwrap(), start);
        assert_eq!(counting.raise_counter(index).unwrap(), start + 1);
        let (other, _) = counting.make_counter().unwrap();
        assert_ne!(index, other);
        drop(device);

        // Also over a session that a key's use has opened.
        let mut device = bench.device();
        bench.opens(&mut *device, &opens);
        let counting = device.counting().unwrap();
        assert_eq!(counting.raise_counter(index).unwrap(), start + 2);
        counting.remove_counter(index).unwrap();
        assert_eq!(counting.read_counter(index).unwrap_err().kind(), Kind::KeyMissing);
        bench.opens(&mut *device, &opens);

        // A counter that takes another's index does not begin below it (part 1 §37.2.4.3).
        let (again, anew) = device.counting().unwrap().make_counter().unwrap();
        assert_eq!(again, index);
        assert!(anew > start + 2);
        drop(device);
        assert_eq!(bench.tpm.loaded(), (0, 0));
    });
}

#[test]
fn a_counter_outlives_a_crash() {
    let Some(mut tpm) = crate::swtpm::Swtpm::new() else { return };
    let connect = |uri: &str| strongroom::device::connect(&uri.parse().unwrap()).unwrap();
    let mut device = connect(&tpm.uri());
    let (index, start) = device.counting().unwrap().make_counter().unwrap();
    device.counting().unwrap().raise_counter(index).unwrap();
    tpm.kill();
    tpm.start();
    assert_eq!(device.counting().unwrap().read_counter(index).unwrap(), start + 1);
}
