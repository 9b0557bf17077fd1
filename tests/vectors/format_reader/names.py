"""Names and texts: section 2 of docs/reference/format.md."""

import re

SEGMENT = re.compile(r"[A-Za-z0-9._+:-]+")
FORBIDDEN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def is_segment(value, limit=64):
    fits = SEGMENT.fullmatch(value) and len(value) <= limit
    return bool(fits) and value not in (".", "..") and not value.startswith("-")


def is_name(value):
    return 1 <= len(value) <= 255 and all(is_segment(part, 255) for part in value.split("/"))


def is_prefix(value):
    return value == "" or is_name(value)


def is_text(value, limit=1024):
    return len(value.encode("utf-8")) <= limit and not FORBIDDEN.search(value)


def are_labels(pairs):
    return len(pairs) <= 32 and all(is_segment(key) and is_text(value, 256) for key, value in pairs)


def covers(prefix, name):
    return prefix in ("", name) or name.startswith(prefix + "/")


def are_roles(roles):
    return all(is_prefix(prefix) for role in roles if isinstance(role, dict) for prefix in role.values())
