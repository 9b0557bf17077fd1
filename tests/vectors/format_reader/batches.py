"""Batches as bytes, Merkle roots and signatures: section 4 of docs/reference/format.md."""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from .cbor import Reader, Tampering, byte_string, hash_, head, read_version, sha256, uint, write_text


def leaf_hash(data):
    return sha256(b"\0" + data)


def merkle_root(leaves):
    """RFC 6962 §2.1 over the hashes of the leaves."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"")
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1" + merkle_root(leaves[:split]) + merkle_root(leaves[split:]))


def audit_path(index, leaves):
    """RFC 6962 §2.1.1."""
    if len(leaves) < 2:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return audit_path(index, leaves[:split]) + [merkle_root(leaves[split:])]
    return audit_path(index - split, leaves[split:]) + [merkle_root(leaves[:split])]


PAYLOAD = {"store": hash_, "size": uint, "root": hash_, "seen": uint, "seen-chain": hash_, "admin-head": hash_}
BATCH, CHECKPOINT = b"strongroom/batch/1", b"strongroom/checkpoint/1"
ORDERS = {
    64: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    96: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}


@dataclass
class Envelope:
    """A COSE_Sign1 whose form was checked, and nothing else."""

    protected: bytes
    kid: str
    payload: bytes
    signature: bytes
    aad: bytes

    def signed(self):
        parts = (self.protected, self.aad, self.payload)
        return head(4, 4) + write_text("Signature1") + b"".join(map(byte_string, parts))

    def digest(self):
        """What the signature is over."""
        return hashlib.new("sha384" if len(self.signature) == 96 else "sha256", self.signed()).digest()

    def is_signed_by(self, public):
        ((word, value),) = public.items()
        hash_name = hashes.SHA384() if word == "p384" else hashes.SHA256()
        size = {"p256": 64, "p384": 96}.get(word) or len(value["n"]) // 2
        if len(self.signature) != size:
            return False
        try:
            if word == "rsa-pss":
                numbers = rsa.RSAPublicNumbers(int(value["e"], 16), int(value["n"], 16))
                pss = padding.PSS(mgf=padding.MGF1(hash_name), salt_length=32)
                numbers.public_key().verify(self.signature, self.signed(), pss, hash_name)
            else:
                curve = ec.SECP384R1() if word == "p384" else ec.SECP256R1()
                point = ec.EllipticCurvePublicKey.from_encoded_point(curve, bytes.fromhex(value))
                signature = utils.encode_dss_signature(*halves(self.signature))
                point.verify(signature, self.signed(), ec.ECDSA(hash_name))
        except (InvalidSignature, ValueError):
            return False
        return True


def halves(signature):
    middle = len(signature) // 2
    return int.from_bytes(signature[:middle], "big"), int.from_bytes(signature[middle:], "big")


def decode_envelope(data, aad=BATCH):
    reader = Reader(data)
    reader.array(4)
    protected = reader.bytes()
    if reader.take(1) != b"\xa0":
        raise Tampering("an unprotected header")
    payload, signature = reader.bytes(), reader.bytes()
    reader.end()
    size = len(signature)
    if size in ORDERS:
        r, s = halves(signature)
        if not (0 < r < ORDERS[size] and 0 < s <= (ORDERS[size] - 1) // 2):
            raise Tampering("a signature out of range, or with high s")
    elif not 256 <= size <= 512:
        raise Tampering("a signature of another length")
    algorithm = {64: b"\x26", 96: b"\x38\x22"}.get(size, b"\x38\x24")
    kid = protected[-16:]
    if protected != b"\xa2\x01" + algorithm + b"\x04\x50" + kid or len(kid) != 16:
        raise Tampering("another protected header")
    return Envelope(protected, kid.hex(), payload, signature, aad)


def decode_payload(data):
    reader = Reader(data)
    read_version(reader, 7, "a batch")
    payload = {name: shape.read(reader) for name, shape in PAYLOAD.items()}
    reader.end()
    if not 1 <= payload["size"] <= 10_000:
        raise Tampering("a batch's size")
    return payload


def encode_payload(payload):
    return head(4, 7) + head(0, 1) + b"".join(shape.write(payload[name]) for name, shape in PAYLOAD.items())


def encode_envelope(envelope):
    return (head(4, 4) + byte_string(envelope.protected) + b"\xa0" + byte_string(envelope.payload)
            + byte_string(envelope.signature))
