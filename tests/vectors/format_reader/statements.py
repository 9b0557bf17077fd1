"""Statements as bytes: section 3 of docs/reference/format.md, and the material of section 8."""

from cryptography.hazmat.primitives.asymmetric import ec

from .cbor import (
    MIB,
    Newer,
    Reader,
    Shape,
    Tampering,
    alternatives,
    array,
    boolean,
    by_key,
    enumeration,
    hash_,
    head,
    identifier,
    octets,
    optional,
    pair,
    read_version,
    record,
    text,
    uint,
    utf8,
)

level = enumeration({0: "simulator", 1: "reported", 2: "attested"})
state = enumeration({0: "staged", 1: "active", 2: "suspended", 3: "revoked"})
oaep = enumeration({1: "sha1", 256: "sha256"})
pairs_of_texts = array(pair(text, text), by_key)

_subject = alternatives({0: ("store", octets(0)), 1: ("token", identifier), 2: ("name", text), 3: ("prefix", text)})


def read_subject(reader):
    value = _subject.read(reader)
    return "store" if "store" in value else value


subject = Shape(read_subject, lambda value: _subject.write({"store": ""} if value == "store" else value))


def read_target(reader):
    value = subject.read(reader)
    if "token" not in value and "prefix" not in value:
        raise Tampering("neither on a token nor on a prefix")
    return value


target = Shape(read_target, subject.write)


# Keys.


def read_point(size, curve):
    def read(reader):
        point = reader.bytes()
        if len(point) != size or point[0] != 4:
            raise Tampering("not an uncompressed point")
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        except ValueError as error:
            raise Tampering("a point that is not on the curve") from error
        return point.hex()

    return read


def read_rsa_number(least, most):
    def read(reader):
        value = octets(least, most).read(reader)
        if value.startswith("00"):
            raise Tampering("a leading zero in an RSA key")
        return value

    return Shape(read, octets(least, most).write)


modulus, exponent = read_rsa_number(256, 512), read_rsa_number(1, 8)
# Algorithm: word, shapes of what follows, whether it opens, whether it signs.
KEYS = {
    1: ("p256", [Shape(read_point(65, ec.SECP256R1()), octets(65).write)], True, True),
    2: ("rsa", [modulus, exponent, oaep], True, False),
    3: ("aes256", [identifier], True, False),
    4: ("p384", [Shape(read_point(97, ec.SECP384R1()), octets(97).write)], True, True),
    5: ("rsa-pss", [modulus, exponent], False, True),
}
ALGORITHMS = {word: number for number, (word, *_) in KEYS.items()}
RSA_FIELDS = ("n", "e", "oaep")


def key(opens):
    def read(reader):
        length, algorithm = reader.head(4), reader.head(0)
        if algorithm not in KEYS:
            raise Newer(f"a key of algorithm {algorithm}")
        word, shapes, can_open, can_sign = KEYS[algorithm]
        if length != 1 + len(shapes) or not (can_open if opens else can_sign):
            raise Tampering("a key")
        values = [shape.read(reader) for shape in shapes]
        return {word: dict(zip(RSA_FIELDS, values)) if len(values) > 1 else values[0]}

    def write(value):
        ((word, inner),) = value.items()
        algorithm = ALGORITHMS[word]
        shapes = KEYS[algorithm][1]
        values = [inner[field] for field in RSA_FIELDS[: len(shapes)]] if len(shapes) > 1 else [inner]
        parts = [shape.write(value) for shape, value in zip(shapes, values)]
        return head(4, 1 + len(shapes)) + head(0, algorithm) + b"".join(parts)

    return Shape(read, write)


# Bodies, by kind.

role = alternatives(
    {1: ("open", text), 2: ("write", text), 3: ("admin", None), 4: ("grant", text), 5: ("witness", None)}
)
roles = array(role, role.write)
identifiers = array(identifier, utf8)
seals = array(record(digest=hash_, length=uint, recipients=identifiers), lambda seal: utf8(seal["digest"]))


def slot(opens):
    claims = array(pair(text, boolean))
    return record(key=key(opens), uri=text, level=level, claims=claims, material=octets(0, MIB))


GENESIS, ENROL, RETIRE, ROLES, REPAIR, ANCHOR, SETTINGS = 0, 1, 2, 3, 10, 13, 14
BODIES = {
    0: ("genesis", record(nonce=identifier, device=identifier, signing=key(False))),
    1: (
        "enrol",
        record(device=identifier, name=text, model=text, serial=text, opening=slot(True), signing=slot(False),
               roles=roles, replaces=optional(identifier)),
    ),
    2: ("retire", record(device=identifier, compromised=boolean, reason=text)),
    3: ("roles", record(device=identifier, roles=roles)),
    4: (
        "put",
        record(token=identifier, name=text, version=uint, seals=seals, threshold=uint, only=boolean, state=state,
               not_before=optional(uint), expiry=optional(uint), labels=pairs_of_texts, description=text,
               keep=optional(uint)),
    ),
    5: ("state", record(token=identifier, version=uint, state=state, reason=text)),
    6: ("destroy", record(token=identifier, name=text, version=uint, reason=text)),
    7: ("rename", record(**{"token": identifier, "from": text, "to": text})),
    8: (
        "grant",
        record(**{"grant": identifier, "subject": target, "to": text, "ops": array(text, utf8),
                  "until": optional(uint), "as": optional(text)}),
    ),
    9: ("ungrant", record(grant=identifier, subject=target)),
    10: ("repair", record(kept=uint, chain=hash_, reason=text)),
    11: (
        "policy",
        record(subject=target,
               policy=optional(record(period=uint, overlap=uint, hook=text, params=pairs_of_texts))),
    ),
    12: (
        "reseal",
        record(token=identifier, version=uint, threshold=uint, drop=array(hash_, utf8), add=seals),
    ),
    13: ("anchor", record(device=identifier, counter=optional(record(index=uint, start=uint)))),
    14: (
        "settings",
        record(quorum=uint, witnesses=optional(record(count=uint, max_age=uint)), evidence=level,
               recovery=identifiers, thresholds=array(pair(text, uint), by_key)),
    ),
    16: ("approve", record(proposal=hash_)),
    17: ("reject", record(proposal=hash_, reason=text)),
}
PROPOSABLE = (ENROL, RETIRE, ROLES, SETTINGS)
ADMIN_KINDS = ("genesis", "enrol", "retire", "roles", "repair", "anchor", "settings", "propose", "approve", "reject")


def read_proposal(reader):
    reader.array(3)
    until, kind = uint.read(reader), reader.head(0)
    if kind not in PROPOSABLE:
        raise Tampering("a proposal of this kind") if kind in BODIES else Newer(f"kind {kind}")
    word, shape = BODIES[kind]
    return {"until": until, "kind": word, "body": shape.read(reader)}


def write_proposal(value):
    kind = KINDS[value["kind"]]
    return head(4, 3) + head(0, value["until"]) + head(0, kind) + BODIES[kind][1].write(value["body"])


BODIES[15] = ("propose", Shape(read_proposal, write_proposal))
KINDS = {word: number for number, (word, _) in BODIES.items()}


def subjects(kind, body):
    """The subjects that a statement of this kind advances."""
    if kind in ADMIN_KINDS:
        return ["store"]
    if kind in ("grant", "ungrant", "policy"):
        return [body["subject"]]
    names = {
        "put": lambda: [body["name"]],
        "destroy": lambda: [body["name"]] if body["version"] == 0 else [],
        "rename": lambda: [body["from"], body["to"]],
    }
    return [{"token": body["token"]}] + [{"name": name} for name in names.get(kind, lambda: [])()]


advances_shape = array(pair(subject, hash_), lambda advance: subject.write(advance[0]))


def decode_statement(data):
    if len(data) > MIB:
        raise Tampering("a statement of more than 1 MiB")
    reader = Reader(data)
    read_version(reader, 7, "a statement")
    store, number = hash_.read(reader), reader.head(0)
    if number not in BODIES:
        raise Newer(f"kind {number}")
    kind, shape = BODIES[number]
    statement = {"store": store, "kind": kind, "author": identifier.read(reader), "time": uint.read(reader)}
    statement["advances"] = advances_shape.read(reader)
    statement["body"] = shape.read(reader)
    reader.end()
    wanted = sorted({subject.write(value) for value in subjects(kind, statement["body"])})
    if [subject.write(value) for value, _ in statement["advances"]] != wanted:
        raise Tampering("subjects that do not fit the body")
    if encode_statement(statement) != data:
        raise Tampering("not as it would be encoded")
    return statement


def encode_statement(statement):
    number = KINDS[statement["kind"]]
    return b"".join([
        head(4, 7), head(0, 1), hash_.write(statement["store"]), head(0, number),
        identifier.write(statement["author"]), head(0, statement["time"]),
        advances_shape.write(statement["advances"]), BODIES[number][1].write(statement["body"]),
    ])


# Material of a TPM's key (section 8).

blob = octets(0, MIB)
pcrs_shape = pair(uint, array(pair(uint, blob), lambda entry: entry[0].to_bytes(8, "big")))
policy_shape = record(pcrs=optional(pcrs_shape), signer=optional(pair(blob, blob)), pin=boolean)
MATERIAL = {"public": blob, "private": blob, "parent": pair(uint, octets(34)), "policy": policy_shape,
            "persistent": optional(uint)}


def decode_material(data):
    reader = Reader(data)
    read_version(reader, 6, "material")
    material = {name: shape.read(reader) for name, shape in MATERIAL.items()}
    reader.end()
    policy = material["policy"]
    if (policy["pcrs"] and not policy["pcrs"][1]) or (policy["signer"] and not policy["pcrs"]):
        raise Tampering("a policy without registers")
    return material


def encode_material(material):
    return head(4, 6) + head(0, 1) + b"".join(shape.write(material[name]) for name, shape in MATERIAL.items())
