#!/usr/bin/env python3
"""A hook in Python (docs/reference/hooks.md). Its issuer is a directory: each file in it is an account, whose lines are the
values that are accepted. Run it with the directory as its argument."""

import json
import os
import pathlib
import sys

request = json.load(sys.stdin)
account = pathlib.Path(sys.argv[1]) / request["params"]["account"]


def value(which):
    """A value, from its file descriptor."""
    if which not in request:
        return None
    with os.fdopen(request[which]["fd"], "rb") as file:
        return file.read().decode()


def save(values):
    account.write_text("".join(line + "\n" for line in values))


def answer(**fields):
    print(json.dumps({"protocol": 1, **fields}))
    sys.exit(0)


new, old = value("new"), value("old")
accepted = account.read_text().split("\n")[:-1]
match request["step"]:
    case "probe":
        answer(accepts=[which for which, known in (("new", new), ("old", old)) if known in accepted])
    case "set":
        save(accepted if new in accepted else [*accepted, new])
        answer(result="done")
    case "test" if new not in accepted:
        answer(result="refused", message="the account does not accept it")
    case "test":
        answer(result="done")
    case "retire":
        save(line for line in accepted if line != old)
        answer(result="done")
sys.exit(1)
