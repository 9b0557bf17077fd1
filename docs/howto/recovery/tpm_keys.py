#!/usr/bin/env python3
"""Writes the TPM keys that a store's devices were enrolled with: tpm_keys.py STORE.sqlite DIRECTORY

For each key, N.pub and N.priv are what tpm2_load takes, and N.der is the public half. docs/reference/format.md, section 8.
"""
import re, sqlite3, sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# Material in CBOR: an array of six, version 1, a TPMT_PUBLIC of an ECC key with SHA-256, and the encrypted half.
MATERIAL = re.compile(rb"\x86\x01\x58(.)(?=\x00\x23\x00\x0b)", re.DOTALL)

store, directory = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True), Path(sys.argv[2])
count = 0
for (statement,) in store.execute("SELECT bytes FROM statements ORDER BY n"):
    for found in MATERIAL.finditer(statement):
        public = statement[found.end() : found.end() + found[1][0]]
        rest = statement[found.end() + len(public) :]
        private = rest[2 : 2 + rest[1]]
        # The point ends the public area: two coordinates, each after its size.
        size = int.from_bytes(public[-34:-32], "big")
        x, y = public[-32 - 2 - size : -32 - 2], public[-32:]
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + x + y)
        count += 1
        for name, data in (("pub", public), ("priv", private)):
            Path(directory, f"{count}.{name}").write_bytes(len(data).to_bytes(2, "big") + data)
        Path(directory, f"{count}.der").write_bytes(point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
print(count, "keys")
