#![no_main]

use strongroom::ledger::Statement;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    test_support::fuzz_targets::statement(bytes);
    if Statement::decode(bytes).is_ok() {
        strongroom_fuzz::is_deterministic(bytes);
    }
});
