use super::*;
use proptest::prelude::*;

fn parsed(uri: &str) -> DeviceUri {
    DeviceUri::parse(uri).unwrap()
}

fn refusal(uri: &str) -> String {
    let error = DeviceUri::parse(uri).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    error.to_string()
}

#[test]
fn a_whole_uri() {
    let uri = parsed(
        "pkcs11:token=My%20HSM;manufacturer=Acme;model=M1;serial=42;slot-id=007;object=web;id=%00%ff\
         ?module-path=/usr/lib/m.so&module-name=m&pin-source=file:/run/pin",
    );
    assert_eq!(uri.scheme(), Scheme::Pkcs11);
    assert_eq!(uri.token(), Some("My HSM"));
    assert_eq!(uri.manufacturer(), Some("Acme"));
    assert_eq!(uri.model(), Some("M1"));
    assert_eq!(uri.serial(), Some("42"));
    assert_eq!(uri.slot_id(), Some(7));
    assert_eq!(uri.object(), "web");
    assert_eq!(uri.id(), Some(&[0, 0xff][..]));
    assert_eq!(uri.module_path(), Some(Path::new("/usr/lib/m.so")));
    assert_eq!(uri.module_name(), Some("m"));
    assert_eq!(uri.pin_source(), Some(&PinSource::File("/run/pin".into())));
    assert_eq!(
        uri.display_name(),
        "pkcs11:token=My%20HSM;manufacturer=Acme;model=M1;serial=42;slot-id=7;object=web;id=%00%FF?module-name=m"
    );
}

#[test]
fn the_order_of_attributes_does_not_matter() {
    let one = parsed("pkcs11:object=a;token=b?pin-source=/p&module-path=/m");
    assert_eq!(one, parsed("PKCS11:token=b;object=a?module-path=/m&pin-source=file:///p"));
    assert_eq!(one.to_string(), "pkcs11:token=b;object=a?module-path=/m&pin-source=file:/p");
}

#[test]
fn object_has_a_default() {
    assert_eq!(parsed("pkcs11:").object(), "strongroom");
    assert_eq!(parsed("pkcs11:token=x").to_string(), "pkcs11:token=x");
}

#[test]
fn a_vendors_type_of_user() {
    for spelling in ["0x80000001", "2147483649"] {
        let uri = parsed(&format!("pkcs11:token=x?user-type={spelling}"));
        assert_eq!(uri.user_type(), Some(0x8000_0001));
        assert_eq!(uri.to_string(), "pkcs11:token=x?user-type=0x80000001");
    }
    assert_eq!(parsed("pkcs11:").user_type(), None);
    // Neither the security officer, nor the standard's user, nor what is no number of a type.
    for wrong in
        ["0", "1", "2", "0x7fffffff", "0x100000000", "%2B2147483649", "0x%2B80000001", "so", "0x", "-1"]
    {
        assert!(refusal(&format!("pkcs11:?user-type={wrong}")).contains("user-type"), "{wrong}");
    }
    assert!(refusal("piv:?user-type=0x80000001").contains("user-type"));
}

#[test]
fn other_drivers_keep_their_attributes() {
    let tpm = parsed("tpm:?tcti=swtpm:host=127.0.0.1,port=2321");
    assert_eq!(tpm.attribute("tcti"), Some("swtpm:host=127.0.0.1,port=2321"));
    let tpm = parsed("tpm:srk=0x81000002?tcti=device:/dev/tpmrm1&pcr-signature=/run/signatures.json");
    assert_eq!(tpm.display_name(), "tpm:srk=0x81000002?tcti=device:/dev/tpmrm1");
    for wrong in ["tpm:token=a", "tpm:tcti=device", "tpm:?module-path=/m"] {
        assert!(refusal(wrong).contains("is unknown"), "{wrong}");
    }
    let piv = parsed("piv:serial=12345678;slot=9d");
    assert_eq!(
        (piv.scheme(), piv.serial(), piv.attribute("slot")),
        (Scheme::Piv, Some("12345678"), Some("9d"))
    );
}

#[test]
fn pin_sources() {
    let source = |s: &str| parsed(&format!("pkcs11:?pin-source={s}")).pin_source().cloned();
    assert_eq!(source("/p"), Some(PinSource::File("/p".into())));
    assert_eq!(source("file:/p"), Some(PinSource::File("/p".into())));
    assert_eq!(source("env:HSM_PIN"), Some(PinSource::Env("HSM_PIN".into())));
    assert_eq!(source("credential:hsm"), Some(PinSource::Credential("hsm".into())));
    for bad in
        ["|cat", "relative", "file:relative", "env:", "env:A=B", "credential:../x", "credential:..", "1234"]
    {
        let said = refusal(&format!("pkcs11:?pin-source={bad}"));
        assert!(said.contains("`pin-source`") && !said.contains("1234"), "{said}");
    }
}

#[test]
fn a_pin_is_refused_and_never_repeated() {
    for uri in ["pkcs11:token=a?pin-value=secret77", "pkcs11:pin-value=secret77", "tpm:?pin-value=secret77"] {
        let said = refusal(uri);
        assert!(said.contains("pin-value") && !said.contains("secret77"), "{said}");
    }
    for uri in
        ["pkcs11:?pin=secret77", "pkcs11:token=secret77%", "pkcs11:Secret77", "pkcs11:slot-id=secret77"]
    {
        assert!(!refusal(uri).contains("ecret77"));
    }
}

#[test]
fn what_is_wrong_is_named() {
    assert!(refusal("pkcs11:colour=red").contains("`colour`"));
    assert!(refusal("pkcs11:token=a;token=b").contains("`token` is there twice"));
    assert!(refusal("pkcs11:pin-source=/p?pin-source=/p").contains("twice"));
    assert!(refusal("pkcs11:module-path=/m").contains("`module-path` is unknown in its place"));
    assert!(refusal("pkcs11:?token=a").contains("`token`"));
    assert!(refusal("pkcs11:token").contains("`token` has no value"));
    assert!(refusal("pkcs11:token=%zz").contains("`%`"));
    assert!(refusal("pkcs11:token=%ff").contains("UTF-8"));
    assert!(refusal("pkcs11:slot-id=+1").contains("decimal"));
    assert!(refusal("http:token=a").contains("scheme"));
    assert!(refusal("token=a").contains("scheme"));
}

#[test]
fn names_are_safe_on_a_terminal() {
    let shown = parsed("pkcs11:token=a%1b[31m\u{202e}b").display_name();
    assert!(shown.bytes().all(|b| b.is_ascii_graphic()), "{shown}");
}

#[test]
fn setting_an_attribute_keeps_the_others() {
    let uri = parsed("pkcs11:token=a").with("module-path", "/x y").unwrap().with("token", "b;c").unwrap();
    assert_eq!(uri.to_string(), "pkcs11:token=b%3Bc?module-path=/x%20y");
    assert_eq!(uri.token(), Some("b;c"));
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC*") {
        let _ = DeviceUri::parse(&text);
        let _ = DeviceUri::parse(&format!("pkcs11:{text}"));
        let _ = DeviceUri::parse(&format!("pkcs11:token={text}?pin-source={text}"));
    }

    #[test]
    fn near_misses_never_panic(text in "(pkcs11|tpm|piv):[a-z;=&?%0-9:/-]{0,60}") {
        if let Ok(uri) = DeviceUri::parse(&text) {
            prop_assert_eq!(&parsed(&uri.to_string()), &uri);
            prop_assert_eq!(parsed(&uri.to_string()).to_string(), uri.to_string());
        }
    }

    #[test]
    fn printing_and_parsing_is_the_identity(
        token in "\\PC{1,40}", object in ".{1,20}", module in "/.{0,30}", pin in "/[^\0]{0,30}", slot: u64,
    ) {
        let uri = parsed("pkcs11:")
            .with("token", &token).unwrap()
            .with("object", &object).unwrap()
            .with("slot-id", &slot.to_string()).unwrap()
            .with("module-path", &module).unwrap()
            .with("pin-source", &pin).unwrap();
        prop_assert_eq!(&parsed(&uri.to_string()), &uri);
        prop_assert_eq!(uri.token(), Some(token.as_str()));
        prop_assert_eq!(uri.object(), object);
        prop_assert_eq!(uri.slot_id(), Some(slot));
        prop_assert!(uri.to_string().bytes().all(|b| b.is_ascii_graphic()));
        prop_assert!(!uri.display_name().contains("pin-source"));
    }
}
