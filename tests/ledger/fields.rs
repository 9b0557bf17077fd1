//! Statements as JSON, both ways: how a vector says in words what its bytes say.

use serde_json::{Value, json};
use std::str::FromStr;
use strongroom::device::{Evidence, EvidenceLevel, OaepHash, PublicKey};
use strongroom::ledger::body::{
    Anchor, Approve, Body, Counter, Destroy, Enrol, EnrolledKey, Genesis, Grant, PolicyChange, Propose, Put,
    Reject, Rename, Repair, Reseal, Retire, Role, Roles, RotationPolicy, Seal, Settings, State, StateChange,
    Target, Ungrant, Witnesses,
};
use strongroom::ledger::{Statement, Subject};

/// A statement as its vector shows it.
pub fn show(s: &Statement) -> Value {
    let advances = s.advances.iter().map(|(subject, prev)| json!([show_subject(subject), prev.to_string()]));
    json!({
        "store": s.store.to_string(),
        "kind": s.body.kind_name(),
        "author": s.author.to_string(),
        "time": s.time,
        "advances": advances.collect::<Vec<_>>(),
        "body": show_body(&s.body),
    })
}

/// The statement that a vector shows.
pub fn read(v: &Value) -> Statement {
    let advance = |v: &Value| (read_subject(&v[0]), parsed(&v[1]));
    Statement {
        store: parsed(&v["store"]),
        author: parsed(&v["author"]),
        time: v["time"].as_u64().unwrap(),
        advances: list(&v["advances"], advance),
        body: read_body(text(&v["kind"]).as_str(), &v["body"]),
    }
}

fn show_body(body: &Body) -> Value {
    match body {
        Body::Genesis(b) => json!({
            "nonce": hex::encode(b.nonce), "device": b.device.to_string(),
            "signing": show_key(&b.signing),
        }),
        Body::Enrol(b) => json!({
            "device": b.device.to_string(), "name": b.name, "model": b.model, "serial": b.serial,
            "opening": show_enrolled_key(&b.opening), "signing": show_enrolled_key(&b.signing), "roles": show_roles(&b.roles),
            "replaces": b.replaces.map(|device| device.to_string()),
        }),
        Body::Retire(b) => {
            json!({ "device": b.device.to_string(), "compromised": b.compromised, "reason": b.reason })
        }
        Body::Roles(b) => json!({ "device": b.device.to_string(), "roles": show_roles(&b.roles) }),
        Body::Put(b) => show_put(b),
        Body::State(b) => json!({
            "token": b.token.to_string(), "version": b.version, "state": b.state.to_string(), "reason": b.reason,
        }),
        Body::Destroy(b) => {
            json!({ "token": b.token.to_string(), "name": b.name, "version": b.version, "reason": b.reason })
        }
        Body::Rename(b) => json!({ "token": b.token.to_string(), "from": b.from, "to": b.to }),
        Body::Grant(b) => json!({
            "grant": b.grant.to_string(), "subject": show_subject(&b.target.subject()), "to": b.to, "ops": b.ops,
            "until": b.until, "as": b.alias,
        }),
        Body::Ungrant(b) => {
            json!({ "grant": b.grant.to_string(), "subject": show_subject(&b.target.subject()) })
        }
        Body::Reseal(b) => json!({
            "token": b.token.to_string(), "version": b.version, "threshold": b.threshold, "drop": show_ids(&b.drop),
            "add": show_seals(&b.add),
        }),
        Body::Policy(b) => json!({
            "subject": show_subject(&b.target.subject()),
            "policy": b.policy.as_ref().map(|policy| json!({
                "period": policy.period, "overlap": policy.overlap, "hook": policy.hook, "params": policy.params,
            })),
        }),
        Body::Settings(b) => json!({
            "quorum": b.quorum, "evidence": b.evidence.to_string(), "recovery": show_ids(&b.recovery),
            "witnesses": b.witnesses.map(|w| json!({ "count": w.count, "max-age": w.max_age })),
            "thresholds": b.thresholds,
        }),
        Body::Propose(b) => {
            json!({ "until": b.until, "kind": b.change.kind_name(), "body": show_body(&b.change) })
        }
        Body::Approve(b) => json!({ "proposal": b.proposal.to_string() }),
        Body::Reject(b) => json!({ "proposal": b.proposal.to_string(), "reason": b.reason }),
        Body::Anchor(b) => json!({
            "device": b.device.to_string(),
            "counter": b.counter.map(|counter| json!({ "index": counter.index, "start": counter.start })),
        }),
        Body::Repair(b) => json!({ "kept": b.kept, "chain": b.chain.to_string(), "reason": b.reason }),
    }
}

fn read_body(kind: &str, v: &Value) -> Body {
    match kind {
        "genesis" => Body::Genesis(Genesis {
            nonce: bytes(&v["nonce"]).try_into().unwrap(),
            device: parsed(&v["device"]),
            signing: read_key(&v["signing"]),
        }),
        "enrol" => Body::Enrol(Box::new(Enrol {
            device: parsed(&v["device"]),
            name: text(&v["name"]),
            model: text(&v["model"]),
            serial: text(&v["serial"]),
            opening: read_enrolled_key(&v["opening"]),
            signing: read_enrolled_key(&v["signing"]),
            roles: read_roles(&v["roles"]),
            replaces: v["replaces"].as_str().map(|id| id.parse().unwrap()),
        })),
        "retire" => Body::Retire(Retire {
            device: parsed(&v["device"]),
            compromised: v["compromised"].as_bool().unwrap(),
            reason: text(&v["reason"]),
        }),
        "roles" => Body::Roles(Roles { device: parsed(&v["device"]), roles: read_roles(&v["roles"]) }),
        "put" => Body::Put(Box::new(read_put(v))),
        _ => read_change(kind, v),
    }
}

fn read_change(kind: &str, v: &Value) -> Body {
    let version = || v["version"].as_u64().unwrap();
    match kind {
        "state" => Body::State(StateChange {
            token: parsed(&v["token"]),
            version: version(),
            state: read_state(&v["state"]),
            reason: text(&v["reason"]),
        }),
        "destroy" => Body::Destroy(Destroy {
            token: parsed(&v["token"]),
            name: text(&v["name"]),
            version: version(),
            reason: text(&v["reason"]),
        }),
        "rename" => {
            Body::Rename(Rename { token: parsed(&v["token"]), from: text(&v["from"]), to: text(&v["to"]) })
        }
        "grant" => Body::Grant(Grant {
            grant: parsed(&v["grant"]),
            target: read_target(&v["subject"]),
            to: text(&v["to"]),
            ops: list(&v["ops"], text),
            until: v["until"].as_u64(),
            alias: v["as"].as_str().map(Into::into),
        }),
        "ungrant" => {
            Body::Ungrant(Ungrant { grant: parsed(&v["grant"]), target: read_target(&v["subject"]) })
        }
        "reseal" => Body::Reseal(Reseal {
            token: parsed(&v["token"]),
            version: version(),
            threshold: v["threshold"].as_u64().unwrap(),
            drop: list(&v["drop"], parsed),
            add: list(&v["add"], read_seal),
        }),
        "anchor" => Body::Anchor(Anchor {
            device: parsed(&v["device"]),
            counter: v["counter"].as_object().map(|counter| Counter {
                index: counter["index"].as_u64().unwrap(),
                start: counter["start"].as_u64().unwrap(),
            }),
        }),
        "repair" => Body::Repair(Repair {
            kept: v["kept"].as_u64().unwrap(),
            chain: parsed(&v["chain"]),
            reason: text(&v["reason"]),
        }),
        _ => read_agreement(kind, v),
    }
}

/// Kinds about policies, settings and proposals.
fn read_agreement(kind: &str, v: &Value) -> Body {
    match kind {
        "policy" => Body::Policy(PolicyChange {
            target: read_target(&v["subject"]),
            policy: v["policy"].as_object().map(|policy| RotationPolicy {
                period: policy["period"].as_u64().unwrap(),
                overlap: policy["overlap"].as_u64().unwrap(),
                hook: text(&policy["hook"]),
                params: list(&policy["params"], |v| (text(&v[0]), text(&v[1]))),
            }),
        }),
        "settings" => Body::Settings(Box::new(Settings {
            quorum: v["quorum"].as_u64().unwrap(),
            witnesses: v["witnesses"].as_object().map(|witnesses| Witnesses {
                count: witnesses["count"].as_u64().unwrap(),
                max_age: witnesses["max-age"].as_u64().unwrap(),
            }),
            evidence: read_level(&v["evidence"]),
            recovery: list(&v["recovery"], parsed),
            thresholds: list(&v["thresholds"], |v| (text(&v[0]), v[1].as_u64().unwrap())),
        })),
        "propose" => Body::Propose(Box::new(Propose {
            until: v["until"].as_u64().unwrap(),
            change: read_body(v["kind"].as_str().unwrap(), &v["body"]),
        })),
        "approve" => Body::Approve(Approve { proposal: parsed(&v["proposal"]) }),
        "reject" => Body::Reject(Reject { proposal: parsed(&v["proposal"]), reason: text(&v["reason"]) }),
        other => panic!("no kind {other}"),
    }
}

fn show_ids<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn show_seals(seals: &[Seal]) -> Value {
    let show = |seal: &Seal| {
        json!({
            "digest": seal.digest.to_string(), "length": seal.length, "recipients": show_ids(&seal.recipients),
        })
    };
    seals.iter().map(show).collect()
}

fn read_seal(v: &Value) -> Seal {
    Seal {
        digest: parsed(&v["digest"]),
        length: v["length"].as_u64().unwrap(),
        recipients: list(&v["recipients"], parsed),
    }
}

fn show_put(b: &Put) -> Value {
    json!({
        "token": b.token.to_string(), "name": b.name, "version": b.version, "seals": show_seals(&b.seals),
        "threshold": b.threshold, "only": b.only, "state": b.state.to_string(), "not-before": b.not_before, "expiry": b.expiry, "labels": b.labels,
        "description": b.description, "keep": b.keep,
    })
}

fn read_put(v: &Value) -> Put {
    Put {
        token: parsed(&v["token"]),
        name: text(&v["name"]),
        version: v["version"].as_u64().unwrap(),
        seals: list(&v["seals"], read_seal),
        threshold: v["threshold"].as_u64().unwrap(),
        only: v["only"].as_bool().unwrap(),
        state: read_state(&v["state"]),
        not_before: v["not-before"].as_u64(),
        expiry: v["expiry"].as_u64(),
        labels: list(&v["labels"], |v| (text(&v[0]), text(&v[1]))),
        description: text(&v["description"]),
        keep: v["keep"].as_u64(),
    }
}

/// A subject as vectors show it.
pub fn show_subject(subject: &Subject) -> Value {
    match subject {
        Subject::Store => json!("store"),
        Subject::Token(id) => json!({ "token": id.to_string() }),
        Subject::Name(name) => json!({ "name": name }),
        Subject::Prefix(prefix) => json!({ "prefix": prefix }),
    }
}

/// The subject that a vector shows.
pub fn read_subject(v: &Value) -> Subject {
    match v.as_object().and_then(|object| object.iter().next()) {
        None => Subject::Store,
        Some((kind, v)) => match kind.as_str() {
            "token" => Subject::Token(parsed(v)),
            "name" => Subject::Name(text(v)),
            "prefix" => Subject::Prefix(text(v)),
            other => panic!("no subject {other}"),
        },
    }
}

fn read_target(v: &Value) -> Target {
    match read_subject(v) {
        Subject::Token(id) => Target::Token(id),
        Subject::Prefix(prefix) => Target::Prefix(prefix),
        other => panic!("no grant is on {other:?}"),
    }
}

fn show_key(key: &PublicKey) -> Value {
    match key {
        PublicKey::P256(point) => json!({ "p256": hex::encode(point) }),
        PublicKey::P384(point) => json!({ "p384": hex::encode(point) }),
        PublicKey::Rsa { n, e, oaep } => {
            let hash = if *oaep == OaepHash::Sha1 { "sha1" } else { "sha256" };
            json!({ "rsa": { "n": hex::encode(n), "e": hex::encode(e), "oaep": hash } })
        }
        PublicKey::RsaPss { n, e } => json!({ "rsa-pss": { "n": hex::encode(n), "e": hex::encode(e) } }),
        PublicKey::Aes256 { id } => json!({ "aes256": hex::encode(id) }),
    }
}

fn read_key(v: &Value) -> PublicKey {
    if let Some(rsa) = v.get("rsa") {
        let oaep = if rsa["oaep"] == "sha1" { OaepHash::Sha1 } else { OaepHash::Sha256 };
        return PublicKey::Rsa { n: bytes(&rsa["n"]), e: bytes(&rsa["e"]), oaep };
    }
    if let Some(rsa) = v.get("rsa-pss") {
        return PublicKey::RsaPss { n: bytes(&rsa["n"]), e: bytes(&rsa["e"]) };
    }
    if let Some(point) = v.get("p384") {
        return PublicKey::P384(bytes(point).try_into().unwrap());
    }
    match v.get("aes256") {
        Some(id) => PublicKey::Aes256 { id: bytes(id).try_into().unwrap() },
        None => PublicKey::P256(bytes(&v["p256"]).try_into().unwrap()),
    }
}

fn show_enrolled_key(slot: &EnrolledKey) -> Value {
    let (level, claims) = (slot.evidence.level.to_string(), &slot.evidence.claims);
    let mut shown = json!({ "key": show_key(&slot.key), "uri": slot.uri, "level": level, "claims": claims });
    if !slot.material.is_empty() {
        shown["material"] = hex::encode(&slot.material).into();
    }
    shown
}

fn read_level(v: &Value) -> EvidenceLevel {
    match v.as_str().unwrap() {
        "simulator" => EvidenceLevel::Simulator,
        "reported" => EvidenceLevel::Reported,
        "attested" => EvidenceLevel::Attested,
        other => panic!("no level {other}"),
    }
}

fn read_enrolled_key(v: &Value) -> EnrolledKey {
    let level = read_level(&v["level"]);
    let claims = list(&v["claims"], |v| (text(&v[0]), v[1].as_bool().unwrap()));
    let material = v.get("material").map(bytes).unwrap_or_default();
    EnrolledKey {
        key: read_key(&v["key"]),
        uri: text(&v["uri"]),
        evidence: Evidence { level, claims },
        material,
    }
}

/// Roles as vectors show them; a prefix stands as it is, allowed or not.
pub fn show_roles(roles: &[Role]) -> Value {
    let show = |role: &Role| match role {
        Role::Open(prefix) => json!({ "open": prefix }),
        Role::Write(prefix) => json!({ "write": prefix }),
        Role::Admin => json!("admin"),
        Role::Grant(prefix) => json!({ "grant": prefix }),
        Role::Witness => json!("witness"),
    };
    roles.iter().map(show).collect()
}

fn read_roles(v: &Value) -> Vec<Role> {
    list(v, |v| match v.as_str() {
        Some("admin") => Role::Admin,
        Some("witness") => Role::Witness,
        Some(other) => panic!("no role {other}"),
        None => match v.as_object().unwrap().iter().next().unwrap() {
            (word, prefix) if word == "open" => Role::Open(text(prefix)),
            (word, prefix) if word == "write" => Role::Write(text(prefix)),
            (word, prefix) if word == "grant" => Role::Grant(text(prefix)),
            (other, _) => panic!("no role {other}"),
        },
    })
}

fn read_state(v: &Value) -> State {
    match v.as_str().unwrap() {
        "staged" => State::Staged,
        "active" => State::Active,
        "suspended" => State::Suspended,
        "revoked" => State::Revoked,
        other => panic!("no state {other}"),
    }
}

/// Text in a vector.
pub fn text(v: &Value) -> String {
    v.as_str().unwrap().into()
}

/// Hexadecimal text in a vector.
pub fn bytes(v: &Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

/// An identifier in a vector.
pub fn parsed<T: FromStr<Err = String>>(v: &Value) -> T {
    v.as_str().unwrap().parse().unwrap()
}

/// A list in a vector.
pub fn list<T>(v: &Value, read: impl FnMut(&Value) -> T) -> Vec<T> {
    v.as_array().unwrap().iter().map(read).collect()
}
