"""Verification of a store, batch by batch: sections 4 and 5 of docs/reference/format.md."""

from .batches import decode_envelope, decode_payload, leaf_hash, merkle_root
from .cbor import MIB, ZERO, Newer, Tampering, sha256
from .rules import Ineffective, State, Statement, need
from .statements import ADMIN_KINDS, decode_statement, subject


class Store:
    def __init__(self, store_id, clock):
        self.id, self.clock = store_id, clock
        self.n, self.chain, self.newest = 0, ZERO, 0
        self.ends, self.leaves = {0: ZERO}, []
        self.state = State()

    # Batches: what is not right here is tampering.

    def append(self, first, sign1, statements):
        """Verifies the next batch. For each statement: None, or why it has no effect."""
        if first != self.n + 1:
            raise Tampering(f"a batch at {first} after {self.n}")
        if not 1 <= len(statements) <= 10_000 or sum(map(len, statements)) > 16 * MIB:
            raise Tampering("the size of the batch")
        if any(len(statement) > MIB for statement in statements):
            raise Tampering("a statement of more than 1 MiB")
        envelope = decode_envelope(sign1)
        genesis = self.genesis(statements[0]) if first == 1 else None
        if genesis and envelope.kid != genesis["device"]:
            raise Tampering("the first batch is not signed by the device of genesis")
        if not genesis and envelope.kid not in self.state.devices:
            raise Tampering(f"{envelope.kid} was never enrolled")
        signing = genesis["signing"] if genesis else self.state.devices[envelope.kid].signing
        if not envelope.is_signed_by(signing):
            raise Tampering("the signature does not verify")
        by_admin = bool(genesis) or "admin" in self.state.devices[envelope.kid].roles
        try:
            payload = decode_payload(envelope.payload)
            decoded = [decode_statement(statement) for statement in statements]
        except Newer as error:
            raise error if by_admin else Tampering("only an admin may begin a newer format")
        hashes = [leaf_hash(statement) for statement in statements]
        self.check_payload(payload, hashes)
        self.check_statements(decoded, envelope.kid)
        if genesis:
            self.begin(payload, decoded, hashes)
            reasons = [None, None]
        else:
            reasons = self.judge_batch(payload, decoded, hashes)
        self.ends[self.n] = self.chain
        return reasons

    def genesis(self, statement):
        if leaf_hash(statement).hex() != self.id:
            raise Tampering("its hash is not the store's id")
        decoded = decode_statement(statement)
        if decoded["kind"] != "genesis":
            raise Tampering("the first statement is no genesis")
        return decoded["body"]

    def check_payload(self, payload, hashes):
        if payload["store"] != self.id:
            raise Tampering("a batch for another store")
        if payload["size"] != len(hashes) or payload["root"] != merkle_root(hashes).hex():
            raise Tampering("the statements are not those that were signed")
        if self.ends.get(payload["seen"]) != payload["seen-chain"]:
            raise Tampering("signed on another chain")

    def check_statements(self, statements, kid):
        for position, statement in enumerate(statements, self.n + 1):
            if statement["author"] != kid:
                raise Tampering("an author who did not sign")
            if statement["store"] != (ZERO if position == 1 else self.id):
                raise Tampering("a statement for another store")
            if (statement["kind"] == "genesis") != (position == 1):
                raise Tampering("a genesis statement elsewhere")

    def begin(self, payload, statements, hashes):
        if payload["admin-head"] != ZERO or len(statements) != 2 or statements[1]["kind"] != "enrol":
            raise Tampering("the first batch is not genesis and its enrolment")
        genesis, enrolment = (statement["body"] for statement in statements)
        if enrolment["device"] != genesis["device"] or enrolment["signing"]["key"] != genesis["signing"]:
            raise Tampering("the enrolment is of another device or key")
        if "admin" not in enrolment["roles"]:
            raise Tampering("the first device is no admin")
        try:
            for statement, statement_hash in zip(statements, hashes):
                self.check_heads(statement)
                if statement["kind"] == "enrol":
                    self.state.enrol(enrolment)
                self.take_effect(statement, statement_hash)
                self.step(statement_hash)
        except Ineffective as error:
            raise Tampering(f"the first enrolment is not allowed: {error}") from error

    # Statements: what is not right here has no effect.

    def judge_batch(self, payload, statements, hashes):
        author, whole = self.state.devices[statements[0]["author"]], self.whole(payload, statements)
        reasons = []
        for statement, statement_hash in zip(statements, hashes):
            known = Statement(author, statement["time"], statement_hash.hex(), self.n + 1, self.chain)
            try:
                need(not whole, whole)
                self.check_heads(statement)
                self.state.judge(known, statement["kind"], statement["body"])
                self.take_effect(statement, statement_hash)
                reasons.append(None)
            except Ineffective as error:
                reasons.append(str(error))
            self.step(statement_hash)
        return reasons

    def whole(self, payload, statements):
        """Why the whole batch has no effect."""
        of_admins = [statement["kind"] in ADMIN_KINDS for statement in statements]
        if payload["admin-head"] != self.state.head("store"):
            return "the admin head is stale"
        if any(of_admins) and not all(of_admins):
            return "an admin batch is mixed"
        if payload["seen"] != self.n and any(statement["kind"] == "anchor" for statement in statements):
            return "an anchor does not follow directly on what its author had seen"
        return "its author was retired" if self.state.devices[statements[0]["author"]].retired else None

    def check_heads(self, statement):
        for of, prev in statement["advances"]:
            need(prev == self.state.head(of), f"another change of {of} came first")

    def take_effect(self, statement, statement_hash):
        for of, _ in statement["advances"]:
            self.state.heads[subject.write(of)] = statement_hash.hex()
        self.newest = max(self.newest, min(statement["time"], self.clock))

    def step(self, statement_hash):
        self.n += 1
        self.leaves.append(statement_hash)
        self.chain = sha256(bytes.fromhex(self.chain) + statement_hash).hex()
