#!/usr/bin/env python3
"""Opens a sealed token without Strongroom, with the device that it is sealed to.

    open_seal.py SEAL PUBLIC COMMAND…

SEAL is an age file, PUBLIC the opening key's public half (DER). COMMAND has the device compute; its words {in} and {out} become
files. For a key on P-256 or P-384, {in} is the other side's public key (DER) and {out} gets the ECDH secret; with --tpm before
SEAL, both are a TPM2B_ECC_POINT. For an RSA key, {in} is the ciphertext and {out} gets its OAEP decryption. The token goes to
standard output, unless anything was altered. docs/reference/format.md, section 6, has every step.
"""
import base64, hashlib, hmac, subprocess, sys, tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

CURVES = {  # stanza: its info, the KEM's number and hash, and the bytes of a coordinate
    "p256tag": (b"age-encryption.org/p256tag", b"\0\x10", "sha256", 32),
    "strongroom/p384tag": (b"strongroom/p384tag", b"\0\x11", "sha384", 48),
}

def unbase64(text):
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)

def sized(data):
    return len(data).to_bytes(2, "big") + data

def extract(name, salt, data):
    return hmac.digest(salt, data, name)

def expand(name, key, info, length):  # Never more than one block is needed here.
    return hmac.digest(key, info + b"\1", name)[:length]

def parse(seal):
    """The stanzas, the bytes that the MAC covers, the MAC, and the payload."""
    end = seal.index(b"\n--- ") + 4
    line_end = seal.index(b"\n", end)
    version, *stanzas = ("\n" + seal[: end - 4].decode("ascii")).split("\n-> ")
    if version != "\nage-encryption.org/v1":
        sys.exit("this is no age file")
    stanzas = [stanza.split("\n") for stanza in stanzas]
    stanzas = [(line.split(" "), unbase64("".join(body))) for line, *body in stanzas]
    return stanzas, seal[:end], unbase64(seal[end + 1 : line_end].decode()), seal[line_end + 1 :]

def on_device(command, data):
    with tempfile.TemporaryDirectory() as directory:
        files = {"{in}": str(Path(directory, "in")), "{out}": str(Path(directory, "out"))}
        Path(files["{in}"]).write_bytes(data)
        subprocess.run([files.get(word, word) for word in command], check=True, stdout=sys.stderr)
        return Path(files["{out}"]).read_bytes()

def hpke_open(stanza, enc, point, dh, body):
    """RFC 9180, base mode, from the line after DH of Decap on."""
    info, kem, kem_hash, size = CURVES[stanza]
    label = lambda suite, name, data: b"HPKE-v1" + suite + name + data
    kem, hpke = b"KEM" + kem, b"HPKE" + kem + b"\0\1\0\3"
    key = extract(kem_hash, b"", label(kem, b"eae_prk", dh[-size:].rjust(size, b"\0")))
    shared = expand(kem_hash, key, size.to_bytes(2, "big") + label(kem, b"shared_secret", enc + point), size)
    hashed = [extract("sha256", b"", label(hpke, name, data)) for name, data in ((b"psk_id_hash", b""), (b"info_hash", info))]
    secret, context = extract("sha256", shared, label(hpke, b"secret", b"")), b"\0" + b"".join(hashed)
    key, nonce = (expand("sha256", secret, n.to_bytes(2, "big") + label(hpke, name, context), n)
                  for n, name in ((32, b"key"), (12, b"base_nonce")))
    return ChaCha20Poly1305(key).decrypt(nonce, body, b"")

def file_key(stanzas, public, command, tpm):
    for (kind, *words), body in stanzas:
        if kind in CURVES and isinstance(public, ec.EllipticCurvePublicKey):
            enc, info = unbase64(words[1]), CURVES[kind][0]
            point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            short = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
            tag = extract("sha256", info, enc + hashlib.sha256(short).digest()[:4])[:4]
            if len(point) == len(enc) and tag == unbase64(words[0]):
                peer, size = ec.EllipticCurvePublicKey.from_encoded_point(public.curve, enc), CURVES[kind][3]
                if not tpm:
                    peer = peer.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                    return hpke_open(kind, enc, point, on_device(command, peer), body)
                x, y = (sized(enc[at : at + size]) for at in (1, 1 + size))
                return hpke_open(kind, enc, point, on_device(command, sized(x + y))[4 : 4 + size], body)
        if kind == "strongroom/rsa-oaep" and isinstance(public, rsa.RSAPublicKey):
            n, e = (k.to_bytes((k.bit_length() + 7) // 8, "big") for k in (public.public_numbers().n, public.public_numbers().e))
            if hashlib.sha256(kind.encode() + len(n).to_bytes(4, "big") + n + e).digest()[:4] == unbase64(words[0]):
                return on_device(command, body)
    sys.exit("it is not sealed to this key")

def main(arguments):
    tpm = "--tpm" in arguments[:1]
    seal, public, *command = arguments[tpm:]
    stanzas, signed, mac, payload = parse(Path(seal).read_bytes())
    key = file_key(stanzas, load_der_public_key(Path(public).read_bytes()), command, tpm)
    if not hmac.compare_digest(hmac.digest(expand("sha256", extract("sha256", b"", key), b"header", 32), signed, "sha256"), mac):
        sys.exit("its header was altered")
    cipher = ChaCha20Poly1305(expand("sha256", extract("sha256", payload[:16], key), b"payload", 32))
    chunks = [payload[at : at + 65552] for at in range(16, len(payload), 65552)]
    nonces = [number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]) for number in range(len(chunks))]
    sys.stdout.buffer.write(b"".join(cipher.decrypt(nonce, chunk, b"") for nonce, chunk in zip(nonces, chunks)))

main(sys.argv[1:]) if len(sys.argv) > 3 else sys.exit(__doc__)
