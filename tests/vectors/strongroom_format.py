#!/usr/bin/env python3
"""Reads Strongroom's formats without any of Strongroom's code: written from docs/reference/format.md alone.

    strongroom_format.py check                    agrees with every test vector beside it
    strongroom_format.py verify STORE STORE-ID    verifies a store's SQLite file from its first statement on

It needs Python 3.11 and the package `cryptography` (Debian: python3-cryptography).
"""

import copy
import itertools
import json
import sqlite3
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

from format_reader import batches, checkpoints, seals, statements  # noqa: E402
from format_reader.cbor import ZERO, Newer, Tampering, sha256, text, uint, head  # noqa: E402
from format_reader.store import Store  # noqa: E402

VECTORS = Path(__file__).resolve().parent
CLOCK = 1_900_000_000_000
"""The verifier's clock of the vectors."""


class Disagreement(Exception):
    """A vector says something else."""


def same(found, expected, what):
    if found != expected:
        raise Disagreement(f"{what}: found {found!r}, expected {expected!r}")


def load(name):
    return json.loads((VECTORS / name).read_text("utf-8"))


def unhex(value):
    return bytes.fromhex(value)


def verdict(function, *arguments):
    """`accepted`, `tampering` or `newer`."""
    try:
        function(*arguments)
    except Tampering:
        return "tampering"
    except Newer:
        return "newer"
    return "accepted"


# The vectors of `ledger/`.


def with_material(value):
    """The JSON leaves empty material out."""
    if isinstance(value, dict):
        value = {name: with_material(inner) for name, inner in value.items()}
        return value | {"material": value.get("material", "")} if "claims" in value else value
    return [with_material(inner) for inner in value] if isinstance(value, list) else value


def check_statements():
    vectors = load("ledger/statements.json")
    for vector in vectors:
        data, statement = unhex(vector["bytes"]), with_material(vector["statement"])
        same(statements.decode_statement(data), statement, vector["comment"])
        same(statements.encode_statement(statement), data, vector["comment"])
        same(batches.leaf_hash(data).hex(), vector["hash"], vector["comment"])
    return len(vectors)


def check_merkle():
    vectors = load("ledger/merkle.json")
    for vector in vectors:
        leaves, chain = [batches.leaf_hash(unhex(data)) for data in vector["statements"]], [unhex(ZERO)]
        same([leaf.hex() for leaf in leaves], vector["hashes"], vector["comment"])
        same(batches.merkle_root(leaves).hex(), vector["root"], vector["comment"])
        for leaf in leaves:
            chain.append(sha256(chain[-1] + leaf))
        same([value.hex() for value in chain[1:]], vector["chain"], vector["comment"])
        for index, path in enumerate(vector["paths"]):
            same([value.hex() for value in batches.audit_path(index, leaves)], path, vector["comment"])
    return len(vectors)


def batch_key(vector):
    if "rsa" in vector:
        return {"rsa-pss": {"n": vector["rsa"]["n"], "e": vector["rsa"]["e"]}}
    return {vector.get("curve", "p256"): vector["key"]}


def check_batches():
    vectors = load("ledger/batches.json")
    for vector in vectors:
        data, comment = unhex(vector["bytes"]), vector["comment"]
        envelope = batches.decode_envelope(data)
        payload = batches.decode_payload(envelope.payload)
        seen = vector["seen"]
        expected = {"store": vector["store"], "size": len(vector["statements"]), "root": vector["root"],
                    "seen": seen["n"], "seen-chain": seen["chain"], "admin-head": vector["admin_head"]}
        same((envelope.kid, payload), (vector["author"], expected), comment)
        same(batches.encode_payload(payload), envelope.payload, comment)
        same(batches.encode_envelope(envelope), data, comment)
        leaves = [batches.leaf_hash(unhex(statement)) for statement in vector["statements"]]
        same(batches.merkle_root(leaves).hex(), vector["root"], comment)
        same(envelope.digest().hex(), vector["digest"], comment)
        same(envelope.is_signed_by(batch_key(vector)), True, comment)
    return len(vectors)


def check_malformed():
    def decode_batch(data):
        batches.decode_payload(batches.decode_envelope(data).payload)

    count, decode_checkpoint = 0, checkpoints.decode_checkpoint
    kinds = ("statements", statements.decode_statement), ("batches", decode_batch), ("checkpoints", decode_checkpoint)
    for name, decode in kinds:
        for vector in load(f"ledger/malformed-{name}.json"):
            expected = "newer" if vector["error"] == "a value of a newer format" else "tampering"
            same(verdict(decode, unhex(vector["bytes"])), expected, vector["comment"])
            count += 1
    return count


def check_checkpoints():
    vectors = load("ledger/checkpoints.json")
    for vector in vectors:
        data, comment = unhex(vector["bytes"]), vector["comment"]
        envelope, checkpoint = checkpoints.decode_checkpoint(data)
        same((envelope.kid, checkpoint), (vector["witness"], {name: vector[name] for name in checkpoint}), comment)
        same(checkpoints.encode_payload(checkpoint), envelope.payload, comment)
        same(batches.encode_envelope(envelope), data, comment)
        same(checkpoints.tlog_text(checkpoint), vector["tlog"], comment)
        same(envelope.digest().hex(), vector["digest"], comment)
        same(envelope.is_signed_by(batch_key(vector)), True, comment)
        same(batches.decode_envelope(data).is_signed_by(batch_key(vector)), False, f"{comment}, as a batch")
    return len(vectors)


def check_judged():
    quorum, vectors, begun = load("ledger/quorum-store.json"), load("ledger/judged-checkpoints.json"), {}
    for vector in vectors:
        if vector["batches"] not in begun:
            store = begun[vector["batches"]] = Store(quorum["store"], CLOCK)
            for step in quorum["batches"][: vector["batches"]]:
                append(store, step["batch"])
        times = [vector[name] for name in ("taken", "clock", "newest", "max_age")]
        found = checkpoints.judge(unhex(vector["bytes"]), begun[vector["batches"]], *times)
        same(found, vector["verdict"], vector["comment"])
    return len(vectors)


def append(store, batch):
    return store.append(batch["first"], unhex(batch["sign1"]), [unhex(data) for data in batch["statements"]])


def check_refused():
    whole, vectors = load("ledger/whole-store.json"), load("ledger/refused-batches.json")
    begun = {after: Store(whole["store"], CLOCK) for after in {vector["after"] for vector in vectors}}
    for after, store in begun.items():
        for vector in whole["batches"][:after]:
            append(store, vector["batch"])
    for vector in vectors:
        found = verdict(append, copy.deepcopy(begun[vector["after"]]), vector["batch"])
        same(found, "newer" if vector["newer"] else "tampering", vector["comment"])
    return len(vectors)


def check_store(name):
    def check():
        vector = load(f"ledger/{name}-store.json")
        store, count = Store(vector["store"], CLOCK), 0
        for step in vector["batches"]:
            expected = step["expect"]
            reasons = append(store, step["batch"])
            found = [reason is None for reason in reasons]
            same(found, [reason is None for reason in expected["ineffective"]], f"{step['comment']} ({reasons})")
            found = (store.n, store.chain, store.newest, store.state.head("store"))
            wanted = tuple(expected[key] for key in ("n", "chain", "newest", "admin_head"))
            same(found, wanted, step["comment"])
            count += len(reasons)
        for part, find in PICTURE.items():
            for wanted in vector["picture"][part]:
                same(find(store.state, wanted), wanted, part)
        same(len(store.state.devices), len(vector["picture"]["devices"]), "devices")
        same(len(store.state.tokens), len(vector["picture"]["tokens"]), "tokens")
        return count

    return check


def picture_of_device(state, wanted):
    device = state.devices[wanted["id"]]
    return {"id": device.id, "name": device.name, "retired": device.retired, "roles": device.roles}


def picture_of_token(state, wanted):
    token = state.tokens[wanted["id"]]
    versions = [
        {"version": number, "state": version.state, "reason": version.reason, "threshold": version.threshold,
         "seals": sorted(version.seals)}
        for number, version in token.versions.items()
    ]
    return {"id": wanted["id"], "name": token.name, "suspended": token.suspended, "destroyed": token.destroyed,
            "versions": versions}


def picture_of_grant(state, wanted):
    standing = state.grants.get(wanted[0])
    return [wanted[0], standing["subject"] if standing else None]


PICTURE = {
    "devices": picture_of_device,
    "tokens": picture_of_token,
    "grants": picture_of_grant,
    "heads": lambda state, wanted: [wanted[0], state.head(wanted[0])],
}


# The vectors of `seal/` and `material/`.


def software_keys():
    keys = load("seal/keys.json")
    rsa = [unhex(keys["rsa2048"][name]) for name in "nedpq"]
    return {
        "p256": seals.CurveKey(seals.P256TAG, unhex(keys["p256"]["private"]), unhex(keys["p256"]["public"])),
        "p384": seals.CurveKey(seals.P384TAG, unhex(keys["p384"]["private"]), unhex(keys["p384"]["public"])),
        "aes256": seals.AesKey(unhex(keys["aes256"]["id"]), unhex(keys["aes256"]["key"])),
        "rsa2048/sha1": seals.RsaKey(*rsa, "sha1"),
        "rsa2048/sha256": seals.RsaKey(*rsa, "sha256"),
    }


def opened(sealed, key, vector):
    """The plaintext; None if it is not sealed to the key, `refused` if it is refused."""
    try:
        return seals.open_sealed(sealed, key, vector["store"], vector["token"], vector["version"]).hex()
    except seals.NotSealed:
        return None
    except seals.Refused:
        return "refused"


def sealed_vectors():
    paths = sorted((VECTORS / "seal").glob("*.json"))
    return {path.stem: vector for path in paths if "sealed" in (vector := load(f"seal/{path.name}"))}


def check_seals():
    keys, count = software_keys(), 0
    for name, vector in sealed_vectors().items():
        if "threshold" in vector:
            count += check_shares(name, vector, keys)
            continue
        for word, key in keys.items():
            expected = vector["plaintext"] if word in vector["keys"] else None
            same(opened(unhex(vector["sealed"]), key, vector), expected, f"{name} with {word}")
            count += 1
    for vector in load("seal/p256tag-tags.json"):
        tag = seals.P256TAG.tag(unhex(vector["enc"]), unhex(vector["public"]))
        same(seals.base64_encode(tag), vector["tag"], vector["recipient"])
        same(seals.recipient(unhex(vector["public"])), vector["recipient"], "a recipient's text")
        count += 1
    return count


def opened_together(sealed, keys, vector):
    try:
        where = vector["store"], vector["token"], vector["version"], vector["threshold"]
        return seals.open_together(sealed, keys, *where).hex()
    except seals.NotSealed:
        return None
    except seals.Refused:
        return "refused"


def check_shares(name, vector, keys):
    """Every choice of its keys: it takes as many as the threshold. And edits that make its shares not fit together."""
    sealed, count, threshold = unhex(vector["sealed"]), 0, vector["threshold"]
    for number in range(1, len(vector["keys"]) + 1):
        for chosen in itertools.combinations(vector["keys"], number):
            expected = vector["plaintext"] if number >= threshold else None
            same(opened_together(sealed, [keys[word] for word in chosen], vector), expected, f"{name} with {chosen}")
            count += 1
    everyone = [keys[word] for word in vector["keys"]]
    first, second = [share.x for share in seals.shares_in(seals.parse(sealed), threshold)][:2]
    one = b"-> strongroom/share %d %d " % (threshold, first)
    edits = {
        "another threshold in one": (one, b"-> strongroom/share %d %d " % (threshold + 1, first)),
        "a share twice": (one, b"-> strongroom/share %d %d " % (threshold, second)),
        "a coordinate of 0": (one, b"-> strongroom/share %d 0 " % threshold),
        "a coordinate that no share has": (one, b"-> strongroom/share %d 9 " % threshold),
        "a leading zero": (one, b"-> strongroom/share 0%d %d " % (threshold, first)),
        "a stanza that is no share": (one, b"-> "),
    }
    for comment, (before, after) in edits.items():
        same(opened_together(sealed.replace(before, after, 1), everyone, vector), "refused", f"{name}: {comment}")
        count += 1
    for field, value in (("version", vector["version"] + 1), ("threshold", threshold + 1)):
        same(opened_together(sealed, everyone, vector | {field: value}), "refused", f"{name} as of another {field}")
    same(opened(sealed, everyone[0], vector), "refused", f"{name} as of the threshold 1")
    return count


def check_refused_seals():
    """Every byte changed, and what section 6 calls malformed: the latter by a key that it is not for, too."""
    keys, vectors, count = software_keys(), sealed_vectors(), 0
    for name in ("p256", "p384", "hsm-aes-gcm", "rsa-oaep-sha256"):
        vector = vectors[name]
        key, other = keys[vector["keys"][0]], keys["p384" if name == "p256" else "p256"]
        sealed = unhex(vector["sealed"])
        for at in range(len(sealed)):
            changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            if opened(changed, key, vector) not in (None, "refused"):
                raise Disagreement(f"{name} opens with byte {at} changed")
            count += 1
        for field, value in (("version", vector["version"] + 1), ("token", "00" * 16), ("store", ZERO)):
            same(opened(sealed, key, vector | {field: value}), "refused", f"{name} as of another {field}")
        for comment, malformed in malformed_seals(sealed, vector):
            for someone in (key, other):
                same(opened(malformed, someone, vector), "refused", f"{name}: {comment}")
            count += 1
    return count


def malformed_seals(sealed, vector):
    context = f"-> strongroom/context {vector['store']} {vector['token']} {vector['version']}\n\n".encode()
    begin, rest = sealed.split(context)
    kind, *arguments = rest.split(b"\n", 1)[0][3:].split(b" ")
    edits = {
        "no context": b"",
        "two contexts": context * 2,
        "a context with a leading zero": context.replace(b" 7\n", b" 07\n"),
        "a context with a sign": context.replace(b" 7\n", b" +7\n"),
        "a context in capitals": context.replace(b"5a5a", b"5A5A"),
        "a context with a body": context[:-1] + b"AAAA\n",
        "a context with one more argument": context.replace(b" 7\n", b" 7 7\n"),
        "a context of 257 stanzas": context + b"-> some\n\n" * 255,
        "a header of more than 64 KiB": context + b"-> some " + b"x" * 65_536 + b"\n\n",
        "a stanza without arguments": context + b"-> p256tag\n\n",
        "a share": context + b"-> strongroom/share 2 1 p256tag\n\n",
        "an empty argument": context.replace(b" 7\n", b"  7\n"),
    }
    for comment, edit in edits.items():
        if edit != context:
            yield comment, begin + edit + rest
    line = b"-> " + b" ".join([kind, *arguments])
    for comment, edit in {
        "one more argument": line + b" AAAA",
        "an argument too few": line.rsplit(b" ", 1)[0],
        "a tag of three bytes": line.replace(b" " + arguments[0], b" AAAA", 1),
        "a tag with padding": line.replace(arguments[0], arguments[0] + b"==", 1),
        "a tag that is not canonical": line.replace(arguments[0], arguments[0][:-1] + b"B", 1),
    }.items():
        yield comment, sealed.replace(line, edit, 1)


def check_material():
    lines = (VECTORS / "material/tpm.hex").read_text("ascii").split()
    for line in lines:
        same(statements.encode_material(statements.decode_material(unhex(line))).hex(), line, "material")
    return len(lines)


CHECKS = {
    "statements": check_statements,
    "Merkle trees": check_merkle,
    "batches": check_batches,
    "checkpoints": check_checkpoints,
    "checkpoints judged": check_judged,
    "malformed statements, batches and checkpoints refused": check_malformed,
    "batches refused": check_refused,
    "statements of the whole store judged": check_store("whole"),
    "statements of the resealed store judged": check_store("resealed"),
    "statements of the store with a quorum judged": check_store("quorum"),
    "sealed tokens opened, or not, by keys": check_seals,
    "sealed tokens refused": check_refused_seals,
    "materials of a TPM": check_material,
}


def check():
    for what, run in CHECKS.items():
        print(f"{run():6} {what}")


# A store's file.


def verify(path, store_id):
    database = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
    database.execute("BEGIN")
    store, ineffective = Store(store_id, time.time_ns() // 1_000_000), []
    stored = dict(database.execute("SELECT n, bytes FROM statements"))
    count = 0
    for first, last, sign1 in database.execute("SELECT first, last, sign1 FROM batches ORDER BY first"):
        reasons = store.append(first, sign1, [stored.pop(n, b"") for n in range(first, last + 1)])
        ineffective += [(n, reason) for n, reason in enumerate(reasons, first) if reason]
        count += 1
    if stored:
        raise Tampering(f"statements that no batch signs: {sorted(stored)[:3]}")
    checked, accesses = verify_seals(database, store), verify_accesses(database)
    witnesses = verify_checkpoints(database, store)
    print(f"{store.id}:{store.n}:{store.chain}")
    print(f"{store.n} statements in {count} batches, {len(ineffective)} without effect")
    for n, reason in ineffective:
        print(f"  {n}: {reason}")
    for device in store.state.devices.values():
        print(f"device {device.id} {device.name}{' (retired)' if device.retired else ''}")
    for device, verdict in witnesses:
        print(f"checkpoint of {device}: {verdict}")
    for token_id, token in store.state.tokens.items():
        states = ", ".join(version.state for version in token.versions.values())
        print(f"token {token_id} {token.name}{' (destroyed)' if token.destroyed else ''}: {states}")
    print(f"{len(store.state.grants)} grants, {checked} sealed, {accesses} accesses")


def verify_seals(database, store):
    """Each seal of each version that was not destroyed lies there, as its statement says."""
    rows = database.execute("SELECT digest, bytes FROM sealed WHERE NOT destroyed")
    sealed, checked = {digest.hex(): data for digest, data in rows}, 0
    for token_id, token in store.state.tokens.items():
        for number, version in token.versions.items():
            for digest, seal in version.seals.items() if version.state != "destroyed" else ():
                data = sealed.get(digest)
                if data is None or sha256(data).hex() != digest or len(data) != seal["length"]:
                    raise Tampering(f"the sealed bytes {digest} of {token.name}, version {number}")
                seals.checked_header(data, store.id, token_id, number, version.threshold)
                checked += 1
    return checked


def verify_checkpoints(database, store):
    """What each stored checkpoint says of the store; its time is not asked about."""
    found, ever = [], 2**64
    for device, sign1 in database.execute("SELECT device, sign1 FROM checkpoints ORDER BY device"):
        verdict = checkpoints.judge(sign1, store, 0, ever, 0, ever)
        if verdict in ("forked", "withheld"):
            raise Tampering(f"{device.hex()} witnessed another store: {verdict}")
        if verdict == "fresh":
            envelope, checkpoint = checkpoints.decode_checkpoint(sign1)
            if envelope.kid != device.hex():
                raise Tampering(f"the checkpoint of {device.hex()} is another's")
            verify_witnessed_accesses(database, envelope.kid, checkpoint["accesses"])
            verdict = f"agrees at {checkpoint['n']}"
        found.append((device.hex(), verdict))
    return found


def verify_witnessed_accesses(database, device, accesses):
    dropped, chain = dropped_accesses(database).get(device, (0, bytes(32)))
    if accesses["count"] < dropped:
        return
    chain, rows = chain.hex(), database.execute("SELECT chain FROM access WHERE device = ? ORDER BY n", (device,)).fetchall()
    left = accesses["count"] - dropped
    if 0 < left <= len(rows):
        chain = rows[left - 1][0].hex()
    if left > len(rows) or chain != accesses["chain"]:
        raise Tampering(f"the access log is not the one that {device} witnessed")


def dropped_accesses(database):
    return {device: (count, chain) for device, count, chain in database.execute("SELECT * FROM access_dropped")}


def verify_accesses(database):
    dropped = dropped_accesses(database)
    chains, n = {device: chain for device, (_, chain) in dropped.items()}, sum(count for count, _ in dropped.values())
    for n, (number, *line, chain) in enumerate(database.execute("SELECT * FROM access ORDER BY n"), n + 1):
        device = line[1]
        encoded = head(4, len(line)) + b"".join(
            text.write(value) if isinstance(value, str) else uint.write(value) for value in line
        )
        chains[device] = sha256(chains.get(device, bytes(32)) + encoded)
        if number != n or chains[device] != chain:
            raise Tampering(f"line {number} of the access log")
    return n


def main(arguments):
    match arguments:
        case ["check"]:
            check()
        case ["verify", store, store_id]:
            verify(store, store_id)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Disagreement, Tampering, Newer, seals.Refused) as error:
        sys.exit(f"{type(error).__name__}: {error}")
