use super::*;

#[test]
fn codes_have_the_standards_names_and_say_which_part_they_are_about() {
    for (code, shown) in [
        (0x98e, "TPM_RC_AUTH_FAIL (0x98e, session 1)"),
        (0x9a2, "TPM_RC_BAD_AUTH (0x9a2, session 1)"),
        (0x921, "TPM_RC_LOCKOUT (0x921)"),
        (0x1c4, "TPM_RC_VALUE (0x1c4, parameter 1)"),
        (0x1df, "TPM_RC_INTEGRITY (0x1df, parameter 1)"),
        (0x18b, "TPM_RC_HANDLE (0x18b, handle 1)"),
        (0x28b, "TPM_RC_HANDLE (0x28b, handle 2)"),
        (0x99d, "TPM_RC_POLICY_FAIL (0x99d, session 1)"),
        (0x128, "TPM_RC_PCR_CHANGED (0x128)"),
        (0x14a, "TPM_RC_NV_UNINITIALIZED (0x14a)"),
        (0x101, "TPM_RC_FAILURE (0x101)"),
        (0x902, "TPM_RC_OBJECT_MEMORY (0x902)"),
        (0x918, "TPM_RC_REFERENCE_S0 (0x918)"),
        (0xc_0902, "TPM_RC_OBJECT_MEMORY (resource manager) (0xc0902)"),
        (0xa_000a, "TSS2_BASE_RC_IO_ERROR (transport to the TPM) (0xa000a)"),
        (0x7_0007, "TSS2_BASE_RC_BAD_SEQUENCE (ESYS of tpm2-tss) (0x70007)"),
        (0x7_001b, "TSS2_BASE_RC_RSP_AUTH_FAILED (ESYS of tpm2-tss) (0x7001b)"),
        (0x9_00ff, "an unknown code (marshalling of tpm2-tss) (0x900ff)"),
        (0x1ff, "an unknown code (0x1ff, parameter 1)"),
    ] {
        assert_eq!(Code(code).to_string(), shown);
    }
}

#[test]
fn codes_mean_something_to_the_person() {
    for (code, kind) in [
        (0x98e, Kind::PinWrong),
        (0x921, Kind::PinLocked),
        (0x1df, Kind::KeyMissing),
        (0x99d, Kind::Refused),
        (0xa_000a, Kind::DeviceGone),
        (0x7_001b, Kind::Device),
        (0x143, Kind::Unsupported),
        (0x14c, Kind::Conflict),
        (0x1ff, Kind::Device),
    ] {
        assert_eq!(Code(code).meaning().0, kind, "{code:#x}");
    }
}

#[test]
fn what_is_worth_another_try_gets_one() {
    for (code, remedy) in [
        (0x922, Remedy::Wait),
        (0x908, Remedy::Wait),
        (0x903, Remedy::Queue),
        (0xc_0903, Remedy::Queue),
        (0x910, Remedy::Reload),
        (0x918, Remedy::Reload),
        (0x18b, Remedy::Reload),
        (0xa_000a, Remedy::Reconnect),
        (0x7_0007, Remedy::Reconnect),
        (0x98e, Remedy::None),
        (0x921, Remedy::None),
        (0x7_001b, Remedy::Renew),
        (0x8_0011, Remedy::Renew),
        (0x1c4, Remedy::None),
    ] {
        assert_eq!(Code(code).remedy(), remedy, "{code:#x}");
    }
}

#[test]
fn no_code_stands_twice_in_the_table() {
    for (i, (code, name, ..)) in TPM_CODES.iter().enumerate() {
        assert!(TPM_CODES[i + 1..].iter().all(|(other, ..)| other != code), "{name}");
        assert_eq!(Code(*code).tpm(), Some(*code), "{name} is written with a number");
    }
}
