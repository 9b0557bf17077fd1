"""Sealed tokens: section 6 of docs/reference/format.md, opened with private keys in software."""

import base64
import hmac
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from .cbor import MIB, sha256

HEADER_LIMIT = 65_536
CHUNK = 65_536
FIRST_LINE = b"age-encryption.org/v1\n"
CONTEXT = re.compile(r"[0-9a-f]{64} [0-9a-f]{32} (0|[1-9][0-9]*)")
NUMBER = re.compile(r"0|[1-9][0-9]*")


class Refused(Exception):
    """Not a sealed token, or another one than it should be."""


class NotSealed(Exception):
    """The version is not sealed to this key."""


@dataclass
class Stanza:
    type: str
    arguments: list
    body: bytes


@dataclass
class Header:
    stanzas: list
    signed: bytes
    mac: bytes
    payload: bytes
    """What follows the header."""


# age's own form.


def base64_decode(value):
    """RFC 4648 §4 without padding, canonical."""
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except ValueError as error:
        raise Refused("not base64") from error
    if base64_encode(data) != value:
        raise Refused("base64 that is not canonical")
    return data


def base64_encode(data):
    return base64.b64encode(data).decode("ascii").rstrip("=")


def lines_of(data):
    """The header's lines; it ends with the MAC's."""
    end = data.find(b"\n---", 0, HEADER_LIMIT)
    end = data.find(b"\n", end + 1, HEADER_LIMIT) if end >= 0 else -1
    if end < 0:
        raise Refused("no header of at most 64 KiB")
    if not all(byte == 10 or 32 <= byte < 127 for byte in data[:end]):
        raise Refused("a header that is not of printable ASCII")
    return data[: end + 1].decode("ascii").split("\n")[:-1]


def parse(data):
    if len(data) > MIB + 65_536:
        raise Refused("more than 1 MiB + 64 KiB")
    if not data.startswith(FIRST_LINE):
        raise Refused("no age file")
    lines = lines_of(data)
    stanzas, at = [], 1
    while lines[at].startswith("-> "):
        kind, *arguments = lines[at][3:].split(" ")
        if not kind or not all(arguments):
            raise Refused("an empty argument")
        at, body = at + 1, ""
        while len(lines[at]) == 64 and not lines[at].startswith("-"):
            at, body = at + 1, body + lines[at]
        if len(lines[at]) > 64 or lines[at].startswith("-"):
            raise Refused("a body without a last line")
        stanzas.append(Stanza(kind, arguments, base64_decode(body + lines[at])))
        at += 1
    if not 1 <= len(stanzas) <= 256:
        raise Refused("1 to 256 stanzas")
    if at != len(lines) - 1 or not lines[at].startswith("--- "):
        raise Refused("no MAC line")
    mac = base64_decode(lines[at][4:])
    size = sum(len(line) + 1 for line in lines)
    signed = data[: size - 1 - len(lines[at][3:])]
    if len(mac) != 32:
        raise Refused("a MAC of another length")
    return Header(stanzas, signed, mac, data[size:])


def hkdf(hash_name, salt, secret, info, length):
    return hkdf_expand(hash_name, hkdf_extract(hash_name, salt, secret), info, length)


def hkdf_extract(hash_name, salt, secret):
    return hmac.digest(salt, secret, hash_name)


def hkdf_expand(hash_name, key, info, length):
    output, block = b"", b""
    while len(output) < length:
        block = hmac.digest(key, block + info + bytes([len(output) // hmac.new(b"", b"", hash_name).digest_size + 1]),
                            hash_name)
        output += block
    return output[:length]


def decrypt_payload(file_key, data):
    if len(data) < 16:
        raise Refused("no nonce")
    cipher = ChaCha20Poly1305(hkdf("sha256", data[:16], file_key, b"payload", 32))
    chunks = [data[at : at + CHUNK + 16] for at in range(16, len(data), CHUNK + 16)]
    plaintext = b""
    try:
        for number, chunk in enumerate(chunks):
            last = number == len(chunks) - 1
            plaintext += cipher.decrypt(number.to_bytes(11, "big") + bytes([last]), chunk, b"")
    except InvalidTag as error:
        raise Refused("a payload that was changed") from error
    if not 1 <= len(plaintext) <= MIB or len(chunks[-1]) == 16:
        raise Refused("a payload of 1 byte to 1 MiB")
    return plaintext


# HPKE (RFC 9180), base mode, single shot.


def labelled(suite, label, data):
    return b"HPKE-v1" + suite + label + data


def labelled_expand(hash_name, suite, key, label, info, length):
    return hkdf_expand(hash_name, key, length.to_bytes(2, "big") + labelled(suite, label, info), length)


def compressed(public):
    """An uncompressed point's other form."""
    return bytes([2 + public[-1] % 2]) + public[1 : 1 + len(public) // 2]


@dataclass
class Tag:
    """A stanza for a key on an elliptic curve."""

    type: str
    info: bytes
    curve: object
    kem: bytes
    kem_hash: str
    point_size: int

    def secret(self, dh, enc, public):
        """ExtractAndExpand of RFC 9180 §4.1."""
        suite, size = b"KEM" + self.kem, {"sha256": 32, "sha384": 48}[self.kem_hash]
        key = hkdf_extract(self.kem_hash, b"", labelled(suite, b"eae_prk", dh))
        return labelled_expand(self.kem_hash, suite, key, b"shared_secret", enc + public, size)

    def open(self, dh, enc, public, ciphertext):
        suite = b"HPKE" + self.kem + b"\0\1\0\3"
        extract = lambda salt, label, data: hkdf_extract("sha256", salt, labelled(suite, label, data))
        context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", self.info)
        key = extract(self.secret(dh, enc, public), b"secret", b"")
        aead = ChaCha20Poly1305(labelled_expand("sha256", suite, key, b"key", context, 32))
        return aead.decrypt(labelled_expand("sha256", suite, key, b"base_nonce", context, 12), ciphertext, b"")

    def tag(self, enc, public):
        """`public` is the uncompressed point."""
        return hkdf_extract("sha256", self.info, enc + sha256(compressed(public))[:4])[:4]


P256TAG = Tag("p256tag", b"age-encryption.org/p256tag", ec.SECP256R1(), b"\0\x10", "sha256", 65)
P384TAG = Tag("strongroom/p384tag", b"strongroom/p384tag", ec.SECP384R1(), b"\0\x11", "sha384", 97)
RSA, AES, SHARE, CONTEXT_TYPE = (
    "strongroom/rsa-oaep", "strongroom/hsm-aes-gcm", "strongroom/share", "strongroom/context",
)


# Keys: each says which stanzas may be its own, and opens one, or None.


class CurveKey:
    def __init__(self, tag, private, public):
        self.tag, self.public = tag, public
        self.private = ec.derive_private_key(int.from_bytes(private, "big"), tag.curve)

    def matches(self, stanza):
        if stanza.type != self.tag.type:
            return False
        tag, enc = map(base64_decode, stanza.arguments)
        return tag == self.tag.tag(enc, self.public)

    def open(self, stanza, context):
        enc = base64_decode(stanza.arguments[1])
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self.tag.curve, enc)
            dh = self.private.exchange(ec.ECDH(), point)
            return self.tag.open(dh, enc, self.public, stanza.body)
        except (ValueError, InvalidTag):
            return None


class RsaKey:
    def __init__(self, n, e, d, p, q, hash_word):
        self.n, self.e, self.hash_word = n, e, hash_word
        n, e, d, p, q = (int.from_bytes(value, "big") for value in (n, e, d, p, q))
        numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, n))
        self.private = numbers.private_key()

    def matches(self, stanza):
        tagged = RSA.encode() + len(self.n).to_bytes(4, "big") + self.n + self.e
        return (stanza.type == RSA and base64_decode(stanza.arguments[0]) == sha256(tagged)[:4]
                and stanza.arguments[1] == self.hash_word and len(stanza.body) == len(self.n))

    def open(self, stanza, context):
        hash_name = {"sha1": hashes.SHA1, "sha256": hashes.SHA256}[self.hash_word]()
        try:
            return self.private.decrypt(stanza.body, padding.OAEP(padding.MGF1(hash_name), hash_name, None))
        except ValueError:
            return None


class AesKey:
    def __init__(self, key_id, key):
        self.id, self.key = key_id, key

    def matches(self, stanza):
        return stanza.type == AES and base64_decode(stanza.arguments[0]) == sha256(AES.encode() + self.id)[:4]

    def open(self, stanza, context):
        try:
            return AESGCM(self.key).decrypt(base64_decode(stanza.arguments[1]), stanza.body, context.encode())
        except InvalidTag:
            return None


# A sealed token.


def need(condition, otherwise):
    if not condition:
        raise Refused(otherwise)


@dataclass
class Share:
    """A stanza of another type, over a share in place of the file key."""

    threshold: int
    x: int
    stanza: Stanza

    def place(self, context):
        """The hash that stands before a share: where it belongs."""
        return sha256(b"\0".join([SHARE.encode(), context.encode(), b"%d" % self.threshold, b"%d" % self.x]))


def decimal(value):
    need(NUMBER.fullmatch(value), "a number of another form")
    return int(value)


def share_in(stanza):
    need(len(stanza.arguments) >= 3, "a share of another form")
    threshold, x, kind, *arguments = stanza.arguments
    share = Share(decimal(threshold), decimal(x), Stanza(kind, arguments, stanza.body))
    need(2 <= share.threshold <= 254 and 1 <= share.x <= 255, "a share of another form")
    need(kind in (P256TAG.type, P384TAG.type, RSA, AES), "a share of another type")
    check_stanza(share.stanza, 48)
    return share


def shares_in(header, threshold):
    """The shares of a file whose threshold the ledger says; they fit together."""
    shares = [share_in(stanza) for stanza in header.stanzas if stanza.type == SHARE]
    others = [stanza for stanza in header.stanzas if stanza.type in (P256TAG.type, P384TAG.type, RSA, AES)]
    if threshold == 1:
        need(not shares, "shares where any device opens it")
        return []
    need(not others, "stanzas that are no shares")
    need({share.threshold for share in shares} == {threshold}, "another threshold")
    need(len(shares) >= threshold, "fewer shares than the threshold")
    need(len({share.x for share in shares}) == len(shares), "a share twice")
    return shares


def product(a, b):
    """In GF(2^8), modulo x^8 + x^4 + x^3 + x + 1."""
    sum_ = 0
    while b:
        sum_ ^= a if b & 1 else 0
        a, b = a << 1 ^ (0x11B if a & 0x80 else 0), b >> 1
    return sum_


def inverse(a):
    return next(b for b in range(1, 256) if product(a, b) == 1)


def combined(points):
    """The values at 0 of the polynomials through these points, by Lagrange's formula: {x: y}."""
    key = bytes(16)
    for x, y in points.items():
        factor = 1
        for other in points:
            if other != x:
                factor = product(factor, product(other, inverse(other ^ x)))
        key = bytes(a ^ product(factor, b) for a, b in zip(key, y))
    return key


def check_stanza(stanza, size_of_secret=16):
    """Refuses a malformed stanza of the types of this section, whomever it is for."""
    arguments, body = stanza.arguments, stanza.body
    if stanza.type == CONTEXT_TYPE:
        need(CONTEXT.fullmatch(" ".join(arguments)) and not body, "a context of another form")
        need(int(arguments[2]) < 1 << 64, "a version of more than 64 bits")
    elif stanza.type in (P256TAG.type, P384TAG.type):
        size = {kind.type: kind.point_size for kind in (P256TAG, P384TAG)}[stanza.type]
        sizes = [len(base64_decode(argument)) for argument in arguments]
        need(sizes == [4, size] and len(body) == size_of_secret + 16, f"a {stanza.type} of another form")
    elif stanza.type == RSA:
        need(len(arguments) == 2 and len(base64_decode(arguments[0])) == 4, "an RSA stanza of another form")
        need(arguments[1] in ("sha1", "sha256") and 256 <= len(body) <= 512, "an RSA stanza of another form")
    elif stanza.type == AES:
        sizes = [len(base64_decode(argument)) for argument in arguments]
        need(sizes == [4, 12] and len(body) == size_of_secret + 16, "an AES stanza of another form")
    elif stanza.type == SHARE:
        share_in(stanza)


def recipient(public):
    """The text form of a P-256 key: Bech32 (BIP 173) of the compressed point."""
    point, prefix = compressed(public), "age1tag"
    bits = int.from_bytes(point, "big") << -8 * len(point) % 5
    count = -(-8 * len(point) // 5)
    digits = [bits >> 5 * at & 31 for at in reversed(range(count))]
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    sum_ = bech32_polymod(expanded + digits + [0] * 6) ^ 1
    digits += [sum_ >> 5 * at & 31 for at in reversed(range(6))]
    return prefix + "1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[digit] for digit in digits)


def bech32_polymod(values):
    check = 1
    for value in values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return check


def checked_header(data, store, token, version, threshold=1):
    """The header of a file that may be what the ledger says it is."""
    header = parse(data)
    for stanza in header.stanzas:
        check_stanza(stanza)
    contexts = [stanza for stanza in header.stanzas if stanza.type == CONTEXT_TYPE]
    need(len(contexts) == 1, "not exactly one context")
    need(contexts[0].arguments == [store, token, str(version)], "the context of another version")
    shares_in(header, threshold)
    return header


def open_sealed(data, key, store, token, version):
    """The token's bytes."""
    header = checked_header(data, store, token, version)
    context = " ".join([CONTEXT_TYPE, store, token, str(version)])
    for stanza in filter(key.matches, header.stanzas):
        file_key = key.open(stanza, context)
        if file_key is not None and len(file_key) == 16:
            break
    else:
        raise NotSealed
    return finished(header, file_key)


def open_together(data, keys, store, token, version, threshold):
    """The token's bytes, from a share of each key."""
    header = checked_header(data, store, token, version, threshold)
    context, points = " ".join([CONTEXT_TYPE, store, token, str(version)]), {}
    for share in shares_in(header, threshold):
        for key in keys:
            opened = key.open(share.stanza, context) if key.matches(share.stanza) else None
            if opened is not None:
                need(len(opened) == 48 and opened[:32] == share.place(context), "a share that belongs elsewhere")
                points[share.x] = opened[32:]
    if len(points) < threshold:
        raise NotSealed
    return finished(header, combined(dict(list(points.items())[:threshold])))


def finished(header, file_key):
    mac = hmac.digest(hkdf("sha256", b"", file_key, b"header", 32), header.signed, "sha256")
    need(hmac.compare_digest(mac, header.mac), "a header that was changed")
    return decrypt_payload(file_key, header.payload)
