//! A store of a million tokens: what first contact, `get`, `list` and `verify` cost as the store grows.
//!
//! `cargo bench --bench scale -- [TOKENS]`. The statements are real and signed by SoftHSM; the sealed bytes are made from
//! one token: copies of its file, since sealing a million would only measure elliptic curves.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::panic)]

use std::time::{Duration, Instant};
use strongroom::Secret;
use strongroom::device::{self, KeyRef, Purpose};
use strongroom::ledger::SignatureAlgorithm;
use strongroom::ledger::body::{Body, Put, Seal, State};
use strongroom::ledger::verify::Chain;
use strongroom::ledger::{
    Batch, DeviceId, Hash, LogPosition, MAX_BATCH, Name, Statement, Subject, TokenId, leaf, sha256,
};
use strongroom::prompt;
use strongroom::replica::{ListFilter, TrustAnchor};
use strongroom::store::{self, Append};
use strongroom::uri::DeviceUri;
use strongroom::vault::{InitOptions, PutOptions, Setup, TokenRef, Vault};
use test_support::softhsm::SoftHsm;

const SMALL: u64 = 1_000;
/// Has a process verify the store of so many tokens.
const VERIFY: &str = "STRONGROOM_BENCH_VERIFY";
/// The one token that really opens.
const REAL: &str = "the/real/one";

fn main() {
    let large = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(1_000_000);
    test_support::softhsm::benchmark(|hsm| match std::env::var(VERIFY) {
        Ok(tokens) => verify(hsm, tokens.parse().unwrap()),
        Err(_) => measure(hsm, large),
    });
}

fn measure(hsm: &SoftHsm, large: u64) {
    println!("{:<44} {:>12} {:>12}", "", format!("{SMALL} tokens"), format!("{large} tokens"));
    let [small, large] = [SMALL, large].map(|tokens| figures(hsm, tokens));
    for ((what, small), (_, large)) in small.iter().zip(&large) {
        println!("{what:<44} {small:>12} {large:>12}");
    }
    let ratio = large[3].1.parse::<f64>().unwrap() / small[3].1.parse::<f64>().unwrap();
    println!("{:<44} {ratio:>25.2}", "get, large to small");
}

fn setup(hsm: &SoftHsm, tokens: u64, state: &str) -> Setup {
    let device = (
        DeviceUri::parse(
            &hsm.uri_with_pin(&format!("token=demo;object=k{tokens}"), test_support::softhsm::PIN),
        )
        .unwrap(),
        None,
    );
    let directory = hsm.dir.join(format!("{tokens}"));
    Setup::new(format!("sqlite://{}/store.sqlite", directory.display()), vec![device], directory.join(state))
}

fn figures(hsm: &SoftHsm, tokens: u64) -> Vec<(&'static str, String)> {
    let (mut vault, _) = Vault::init(setup(hsm, tokens, "author"), &InitOptions::default()).unwrap();
    let name = Name::parse(REAL).unwrap();
    vault.put(&name, &Secret::new(b"token".to_vec()), &PutOptions::default()).unwrap();
    let store = vault.location().to_owned();
    let (started, head) = (Instant::now(), populate(&mut vault, hsm, tokens));
    let populated = started.elapsed();
    drop(vault);

    let (started, on_cpu) = (Instant::now(), cpu());
    let mut vault = Vault::trust(setup(hsm, tokens, "reader"), &head, false, &mut |_, _| {}).unwrap();
    let (first_contact, first_contact_cpu) = (started.elapsed(), cpu() - on_cpu);
    vault.get(&name, None).unwrap();
    drop(vault);

    let opens: Vec<_> = (0..200)
        .map(|_| timed(|| Vault::open(setup(hsm, tokens, "reader")).unwrap().replica().position()))
        .collect();
    let mut vault = Vault::open(setup(hsm, tokens, "reader")).unwrap();
    vault.get(&name, None).unwrap();
    let gets: Vec<_> = (0..500).map(|_| timed(|| vault.get(&name, None).unwrap())).collect();
    let mut listed = 0;
    let list = timed(|| {
        vault
            .replica()
            .list(&ListFilter::default(), |_, _| {
                listed += 1;
                Ok(true)
            })
            .unwrap();
    });
    drop(vault);
    let verified = in_a_process_of_its_own(tokens);
    let vault = Vault::open(setup(hsm, tokens, "reader")).unwrap();
    let bytes = |path: &str| std::fs::metadata(path).map_or(0, |m| m.len());
    let replica = vault.replica().path().display().to_string();
    vec![
        ("populate, s", seconds(populated)),
        ("first contact, s", seconds(first_contact)),
        ("first contact, s of CPU", seconds(first_contact_cpu)),
        ("get, median, us", micros(median(gets))),
        ("open a vault, median, us", micros(median(opens))),
        ("list all, s", seconds(list)),
        ("verify, s", verified[0].clone()),
        ("verify, s of CPU", verified[1].clone()),
        ("verify, peak memory, MiB", verified[2].clone()),
        ("store, bytes per token", (bytes(store.trim_start_matches("sqlite://")) / tokens).to_string()),
        ("replica, bytes per token", (bytes(&replica) / tokens).to_string()),
    ]
}

/// What [`verify`] printed: its peak of memory is its own only in a process of its own.
fn in_a_process_of_its_own(tokens: u64) -> Vec<String> {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.env(VERIFY, tokens.to_string()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(Into::into).collect()
}

fn verify(hsm: &SoftHsm, tokens: u64) {
    let mut vault = Vault::open(setup(hsm, tokens, "reader")).unwrap();
    let on_cpu = cpu();
    let took = timed(|| assert_eq!(vault.verify(&mut |_, _, _| {}).unwrap().problems, []));
    println!("{} {} {}", seconds(took), seconds(cpu() - on_cpu), peak_memory());
}

/// Puts `tokens` tokens in batches of 10,000, each with one signature.
fn populate(vault: &mut Vault, hsm: &SoftHsm, tokens: u64) -> TrustAnchor {
    let (device_row, store_id) = (vault.replica().devices().unwrap().remove(0), vault.head().store);
    let admin_head = vault.replica().admin_head();
    let mut store = store::open(vault.location()).unwrap();
    let template = Template::from_real_one(vault);
    let uri = setup(hsm, tokens, "author").devices.remove(0).0;
    let mut device = device::connect(&uri).unwrap();
    let key = KeyRef {
        purpose: Purpose::Sign,
        public: device_row.enrolment.signing.key.clone(),
        material: Vec::new(),
    };
    let mut at = vault.replica().position();
    let mut next = 0;
    while next < tokens {
        let count = (tokens - next).min(MAX_BATCH as u64);
        let (statements, sealed): (Vec<_>, Vec<_>) =
            (next..next + count).map(|i| put(vault, &template, device_row.id, i)).unzip();
        let encoded: Vec<_> = statements.iter().map(Statement::encode).collect();
        let leaves: Vec<Hash> = encoded.iter().map(|bytes| leaf(bytes)).collect();
        let batch = Batch::over(store_id, device_row.id, &leaves, at, admin_head);
        let signature =
            device.sign(&key, &batch.digest(SignatureAlgorithm::Es256), &mut *prompt::for_process()).unwrap();
        let signed = batch.sign_with(SignatureAlgorithm::Es256, &signature).unwrap();
        let advances: Vec<_> =
            statements.iter().flat_map(|s| &s.advances).map(|(s, prev)| (s.encode(), *prev)).collect();
        at = store
            .append(&Append {
                sign1: &signed.encode(),
                statements: &encoded,
                advances: &advances,
                admin: (Subject::Store.encode(), admin_head),
                seen: at,
                directly: false,
                sealed: &sealed,
                destroyed: &[],
            })
            .unwrap();
        next += count;
    }
    TrustAnchor { store: store_id, position: LogPosition { n: at.n, chain: at.chain } }
}

fn put(vault: &Vault, template: &Template, author: DeviceId, i: u64) -> (Statement, (Hash, Vec<u8>)) {
    let seed = sha256(&i.to_be_bytes());
    let token = TokenId::from_slice(&seed.0[..16]).unwrap();
    let sealed = template.replace(&token);
    let digest = sha256(&sealed);
    let body = Put {
        token,
        name: format!("team-{:03}/service-{:04}/token-{i}", i % 997, i % 9973),
        version: 1,
        seals: vec![Seal { digest, length: sealed.len() as u64, recipients: vec![author] }],
        threshold: 1,
        only: false,
        state: State::Active,
        not_before: None,
        expiry: None,
        labels: vec![("env".into(), "prod".into())],
        description: String::new(),
        keep: None,
    };
    let head = |_: &Subject| Ok::<_, std::convert::Infallible>(Hash::ZERO);
    let Ok(statement) = Statement::compose(
        vault.head().store,
        author,
        1_700_000_000_000 + i,
        Body::Put(Box::new(body)),
        head,
    );
    (statement, (digest, sealed))
}

/// A sealed token to make others from: all of it but the token id in its context stanza stays.
struct Template {
    bytes: Vec<u8>,
    at: usize,
}

impl Template {
    fn from_real_one(vault: &mut Vault) -> Self {
        let token = vault.replica().find(REAL).unwrap().unwrap();
        let wanted = TokenRef { name: REAL.parse().unwrap(), version: Some(1) };
        let bytes = vault.sealed_version(&wanted, "read").unwrap();
        let id = token.id.to_string();
        let at = bytes.windows(id.len()).position(|window| window == id.as_bytes()).unwrap();
        Self { bytes, at }
    }

    fn replace(&self, token: &TokenId) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[self.at..self.at + 32].copy_from_slice(token.to_string().as_bytes());
        bytes
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    std::hint::black_box(work());
    started.elapsed()
}

/// This thread's time on a processor, which other load on the machine does not add to.
fn cpu() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn micros(time: Duration) -> String {
    time.as_micros().to_string()
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0);
    (kib / 1024).to_string()
}
