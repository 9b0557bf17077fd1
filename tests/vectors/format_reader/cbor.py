"""Deterministic CBOR, as far as section 1 of docs/reference/format.md uses it.

What is decoded has the spelling of the vectors' JSON: identifiers, hashes and keys in hexadecimal, enumerations as
words.
"""

import hashlib
from dataclasses import dataclass

ZERO = "00" * 32
MIB = 1 << 20


class Tampering(Exception):
    """The store is refused from here on."""


class Newer(Exception):
    """Written by a newer Strongroom."""


def sha256(data):
    return hashlib.sha256(data).digest()


def head(major, number):
    for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << 8 * size:
            return bytes([major << 5 | extra]) + number.to_bytes(size, "big")
    raise ValueError("a number of more than 64 bits")


def byte_string(data):
    return head(2, len(data)) + data


class Reader:
    """Takes one item after the other from bytes, and refuses any but the deterministic encoding at once."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Tampering("the bytes end too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def head(self, major):
        first = self.take(1)[0]
        if first >> 5 != major or first & 31 > 27:
            raise Tampering(f"not of CBOR's major type {major}")
        if first & 31 < 24:
            return first & 31
        size = 1 << (first & 31) - 24
        number = int.from_bytes(self.take(size), "big")
        if number < (24 if size == 1 else 1 << 4 * size):
            raise Tampering("CBOR that is not deterministic")
        return number

    def bytes(self):
        return self.take(self.head(2))

    def array(self, length):
        if self.head(4) != length:
            raise Tampering(f"not an array of {length}")

    def null(self):
        """Takes a null, if one stands here."""
        found = self.data[self.at : self.at + 1] == b"\xf6"
        self.at += found
        return found

    def end(self):
        if self.at != len(self.data):
            raise Tampering("bytes after the end")


# Shapes: each reads a value from a Reader and writes it as bytes.


@dataclass
class Shape:
    read: object
    write: object


def read_text(reader):
    try:
        return reader.take(reader.head(3)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Tampering("not UTF-8") from error


def write_text(value):
    data = value.encode("utf-8")
    return head(3, len(data)) + data


def read_boolean(reader):
    item = reader.take(1)
    if item not in (b"\xf4", b"\xf5"):
        raise Tampering("neither true nor false")
    return item == b"\xf5"


def octets(least, most=None):
    def read(reader):
        data = reader.bytes()
        if not least <= len(data) <= (least if most is None else most):
            raise Tampering(f"{len(data)} bytes")
        return data.hex()

    return Shape(read, lambda value: byte_string(bytes.fromhex(value)))


def optional(shape):
    return Shape(
        lambda reader: None if reader.null() else shape.read(reader),
        lambda value: b"\xf6" if value is None else shape.write(value),
    )


def array(shape, order=None):
    """Any number of values. `order` gives the bytes by which they are sorted, none twice."""

    def read(reader):
        values = [shape.read(reader) for _ in range(reader.head(4))]
        keys = [order(value) for value in values] if order else []
        if any(a >= b for a, b in zip(keys, keys[1:])):
            raise Tampering("out of order")
        return values

    return Shape(read, lambda values: head(4, len(values)) + b"".join(map(shape.write, values)))


def record(**fields):
    def read(reader):
        reader.array(len(fields))
        return {name.replace("_", "-"): shape.read(reader) for name, shape in fields.items()}

    def write(value):
        parts = [shape.write(value[name.replace("_", "-")]) for name, shape in fields.items()]
        return head(4, len(fields)) + b"".join(parts)

    return Shape(read, write)


def pair(first, second):
    def read(reader):
        reader.array(2)
        return [first.read(reader), second.read(reader)]

    return Shape(read, lambda value: head(4, 2) + first.write(value[0]) + second.write(value[1]))


def enumeration(words):
    def read(reader):
        number = reader.head(0)
        if number not in words:
            raise Newer(f"the value {number}")
        return words[number]

    numbers = {word: number for number, word in words.items()}
    return Shape(read, lambda word: head(0, numbers[word]))


def alternatives(choices):
    """`[number, …]`: numbers and the word and shape of each, the shape None where nothing follows the number."""
    numbers = {word: (number, shape) for number, (word, shape) in choices.items()}

    def read(reader):
        length, number = reader.head(4), reader.head(0)
        if number not in choices:
            raise Newer(f"the alternative {number}")
        word, shape = choices[number]
        if length != (2 if shape else 1):
            raise Tampering(f"{word} with {length} elements")
        return {word: shape.read(reader)} if shape else word

    def write(value):
        word, inner = next(iter(value.items())) if isinstance(value, dict) else (value, None)
        number, shape = numbers[word]
        return head(4, 2 if shape else 1) + head(0, number) + (shape.write(inner) if shape else b"")

    return Shape(read, write)


def utf8(value):
    return value.encode("utf-8")


def by_key(value):
    return utf8(value[0])


uint = Shape(lambda reader: reader.head(0), lambda value: head(0, value))
text = Shape(read_text, write_text)
boolean = Shape(read_boolean, lambda value: b"\xf5" if value else b"\xf4")
identifier, hash_ = octets(16), octets(32)


def read_version(reader, length, what):
    """The beginning of `[1, …]` with this many elements."""
    found, version = reader.head(4), reader.head(0)
    if version != 1:
        raise Newer(f"version {version} of {what}")
    if found != length:
        raise Tampering(f"{what} of {found} elements")
