"""Checkpoints, and what a reader makes of them: section 10 of docs/reference/format.md."""

import base64

from .batches import CHECKPOINT, decode_envelope, merkle_root
from .cbor import Newer, Reader, Tampering, hash_, head, read_version, uint

FIELDS = {"store": hash_, "n": uint, "chain": hash_, "root": hash_, "time": uint}
AHEAD = 5 * 60 * 1000
"""How far a witness's clock may be ahead, in milliseconds."""


def decode_checkpoint(data):
    """The envelope, and what was signed."""
    envelope = decode_envelope(data, CHECKPOINT)
    reader = Reader(envelope.payload)
    read_version(reader, 7, "a checkpoint")
    found = {name: shape.read(reader) for name, shape in FIELDS.items()}
    reader.array(2)
    found["accesses"] = {"count": uint.read(reader), "chain": hash_.read(reader)}
    reader.end()
    return envelope, found


def encode_payload(checkpoint):
    fields = b"".join(shape.write(checkpoint[name]) for name, shape in FIELDS.items())
    accesses = checkpoint["accesses"]
    return head(4, 7) + head(0, 1) + fields + head(4, 2) + uint.write(accesses["count"]) + hash_.write(accesses["chain"])


def tlog_text(checkpoint):
    """The body of a C2SP tlog-checkpoint."""
    root = base64.b64encode(bytes.fromhex(checkpoint["root"])).decode("ascii")
    return f"strongroom/{checkpoint['store']}\n{checkpoint['n']}\n{root}\n"


def judge(data, store, taken, clock, newest, max_age):
    """`ignored`, `forked`, `withheld`, or how its time is: `fresh`, `old`, `ahead`."""
    try:
        envelope, checkpoint = decode_checkpoint(data)
    except (Tampering, Newer):
        return "ignored"
    device, n = store.state.devices.get(envelope.kid), checkpoint["n"]
    if device is None or device.retired or "witness" not in device.roles:
        return "ignored"
    if checkpoint["store"] != store.id or not envelope.is_signed_by(device.signing) or n < taken:
        return "ignored"
    if n > store.n:
        return "withheld"
    if n == 0 or n not in store.ends:
        return "ignored"
    if (checkpoint["chain"], checkpoint["root"]) != (store.ends[n], merkle_root(store.leaves[:n]).hex()):
        return "forked"
    if checkpoint["time"] > clock + AHEAD:
        return "ahead"
    return "old" if checkpoint["time"] < max(clock, newest) - max_age else "fresh"
