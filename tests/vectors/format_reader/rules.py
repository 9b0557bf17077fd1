"""What each kind of statement does, and who may: section 3 of docs/reference/format.md."""

from dataclasses import dataclass, field

from .cbor import MIB, ZERO
from .names import are_labels, are_roles, covers, is_name, is_prefix, is_segment, is_text
from .statements import subject

DAY = 86_400_000
SEALED_LIMIT = MIB + 65_536
LEVELS = ("simulator", "reported", "attested")


class Ineffective(Exception):
    """Well signed, and not allowed."""


def need(condition, otherwise):
    if not condition:
        raise Ineffective(otherwise)


# What is believed.


@dataclass
class Device:
    id: str
    name: str
    opening: dict
    signing: dict
    roles: list
    retired: bool = False
    compromised: bool = False
    replaced: bool = False
    anchor: dict | None = None

    def has(self, role, name):
        prefixes = (value[role] for value in self.roles if isinstance(value, dict) and role in value)
        return any(covers(prefix, name) for prefix in prefixes)

    def may(self, role, name):
        return self.is_admin() or self.has(role, name)

    def is_admin(self):
        return "admin" in self.roles

    def opens_everything(self):
        return not self.retired and {"open": ""} in self.roles


@dataclass
class Version:
    name: str
    """The name that it was put under."""
    seals: dict
    """By digest."""
    threshold: int
    state: str
    keep: int | None
    reason: str = ""


@dataclass
class Token:
    name: str
    versions: dict = field(default_factory=dict)
    suspended: bool = False
    destroyed: bool = False
    policy: dict | None = None


@dataclass
class Proposal:
    proposer: str
    until: int
    kind: str
    body: dict
    agreed: set
    rejected: set = field(default_factory=set)

    def about(self):
        return "settings" if self.kind == "settings" else self.body["device"]


def comparable(key):
    """An RSA key is the same with either hash, and for signing."""
    ((word, value),) = key.items()
    return ("rsa", value["n"], value["e"]) if word.startswith("rsa") else (word, value)


@dataclass
class Statement:
    """What the rules need to know of the statement that is judged, besides its body."""

    author: Device
    time: int
    hash: str
    position: int
    chain: str
    """Of the statement before."""


class State:
    """What the statements with effect say. Each `judge_` raises Ineffective, or changes it."""

    def __init__(self):
        self.heads, self.devices, self.tokens = {}, {}, {}
        self.grants, self.prefix_policies, self.proposals = {}, {}, {}
        self.digests, self.signing_keys = set(), set()
        self.settings = {"quorum": 1, "witnesses": None, "evidence": "simulator", "recovery": [], "thresholds": []}

    def head(self, of):
        return self.heads.get(subject.write(of), ZERO)

    def judge(self, statement, kind, body):
        getattr(self, "judge_" + kind)(statement, body)

    # Devices.

    def active(self):
        return [device for device in self.devices.values() if not device.retired]

    def having(self, role):
        return [device for device in self.active() if role in device.roles]

    def need_alone(self, statement):
        """That one admin may do this without the others."""
        need(statement.author.is_admin(), "its author is no admin")
        need(self.settings["quorum"] < 2, "other admins must agree: propose it")

    def judge_enrol(self, statement, body):
        self.need_alone(statement)
        self.enrol(body)
        self.close_proposals_about(body["device"])

    def judge_retire(self, statement, body):
        self.need_alone(statement)
        self.retire(body)
        self.close_proposals_about(body["device"])

    def judge_roles(self, statement, body):
        self.need_alone(statement)
        self.give_roles(body)
        self.close_proposals_about(body["device"])

    def judge_settings(self, statement, body):
        self.need_alone(statement)
        self.set(body)
        self.close_proposals_about("settings")

    def enrol(self, body):
        check_enrolment(body)
        opening, signing = body["opening"], body["signing"]
        need(body["device"] not in self.devices, "this device id was enrolled before")
        need(comparable(signing["key"]) not in self.signing_keys, "this signing key was enrolled before")
        need(all(device.name != body["name"] for device in self.active()), "another device has this name")
        key = comparable(opening["key"])
        need(all(key != comparable(device.opening) for device in self.active()), "another device opens with this key")
        for slot in (opening, signing):
            need(LEVELS.index(slot["level"]) >= LEVELS.index(self.settings["evidence"]), "too little evidence")
        replaced = self.devices.get(body["replaces"])
        if body["replaces"] is not None:
            need(replaced and replaced.retired, "it replaces no retired device")
            need(not replaced.compromised and not replaced.replaced, "it replaces one that has no successor")
            replaced.replaced = True
        self.signing_keys.add(comparable(signing["key"]))
        self.devices[body["device"]] = Device(
            body["device"], body["name"], opening["key"], signing["key"], body["roles"]
        )

    def retire(self, body):
        device = self.active_device(body["device"])
        need(is_text(body["reason"]), "a reason that is no text")
        self.change_roles(device, [])
        device.retired, device.compromised, device.anchor = True, body["compromised"], None

    def give_roles(self, body):
        device = self.active_device(body["device"])
        need(are_roles(body["roles"]), "a prefix")
        self.change_roles(device, body["roles"])

    def active_device(self, device_id):
        device = self.devices.get(device_id)
        need(device and not device.retired, "no such device, or it was retired")
        return device

    def change_roles(self, device, roles):
        loses_admin = device.is_admin() and "admin" not in roles
        if loses_admin:
            left = len(self.having("admin")) - 1
            need(left >= max(1, self.settings["quorum"]), "too few admins are left")
        witnesses = self.settings["witnesses"]
        if witnesses and "witness" in device.roles and "witness" not in roles:
            need(len(self.having("witness")) - 1 > witnesses["count"], "too few witnesses are left")
        device.roles = roles
        if loses_admin:
            self.end_agreements(device.id)

    def end_agreements(self, device_id):
        for proposal_id, proposal in list(self.proposals.items()):
            proposal.agreed.discard(device_id)
            proposal.rejected.discard(device_id)
            if proposal.proposer == device_id:
                del self.proposals[proposal_id]

    # Tokens.

    def living(self, token_id):
        token = self.tokens.get(token_id)
        need(token and not token.destroyed, "no such token, or it was destroyed")
        return token

    def is_free(self, name):
        return all(token.destroyed or token.name != name for token in self.tokens.values())

    def existing(self, token, number):
        version = token.versions.get(number)
        need(version and version.state != "destroyed", "no such version, or it was destroyed")
        return version

    def least_threshold(self, name):
        fitting = [entry for entry in self.settings["thresholds"] if covers(entry[0], name)]
        return max(fitting, key=lambda entry: len(entry[0]))[1] if fitting else 1

    def judge_put(self, statement, body):
        author, name = statement.author, body["name"]
        need(is_name(name), "a name")
        need(author.may("write", name), "no role `write`")
        need(are_labels(body["labels"]) and is_text(body["description"]), "a label or description")
        need(body["state"] in ("staged", "active"), "neither staged nor active")
        need(body["keep"] is None or body["keep"] >= 1, "keep is at least 1")
        if body["version"] == 1:
            need(body["token"] not in self.tokens, "this token id was used before")
            need(self.is_free(name), "another token has this name")
            token = Token(name)
        else:
            token = self.living(body["token"])
            need(token.name == name, "the token has another name")
            need(body["version"] == len(token.versions) + 1, "the version is not the next one")
            before = token.versions[len(token.versions)].threshold
            need(author.is_admin() or body["threshold"] >= before, "fewer devices than before")
        need(body["threshold"] >= self.least_threshold(name), "the settings ask for a higher threshold")
        seals = by_digest(body["seals"])
        self.check_new_seals(body["seals"], {name})
        self.check_seals(seals, body["threshold"])
        self.digests.update(seals)
        self.tokens[body["token"]] = token
        token.versions[body["version"]] = Version(name, seals, body["threshold"], body["state"], body["keep"])
        if body["state"] == "active":
            prune(token, body["version"])

    def check_new_seals(self, seals, names):
        for seal in seals:
            need(seal["digest"] not in self.digests, "these sealed bytes belong to another version")
            need(1 <= seal["length"] <= SEALED_LIMIT, "a length of sealed bytes")
            for device_id in seal["recipients"]:
                need(self.may_receive(device_id, names), f"{device_id} does not open it")

    def may_receive(self, device_id, names):
        device = self.devices.get(device_id)
        return bool(device) and not device.retired and all(device.has("open", name) for name in names)

    def check_seals(self, seals, threshold):
        """What a version has after a put or a reseal."""
        need(1 <= len(seals) <= 64, "1 to 64 seals")
        need(all(1 <= len(seal["recipients"]) <= 254 for seal in seals.values()), "1 to 254 devices in a seal")
        recipients = recipients_of(seals)
        need(len(set(recipients)) == len(recipients), "a device in two seals")
        for device_id in self.settings["recovery"]:
            needed = self.devices[device_id].opens_everything()
            need(not needed or device_id in recipients, f"without the recovery device {device_id}")
        need(1 <= threshold <= 254, "a threshold is 1 to 254")
        if threshold > 1:
            need(len(seals) == 1 and len(recipients) >= threshold, "a threshold with another seal or too few devices")

    def judge_reseal(self, statement, body):
        need(statement.author.is_admin(), "its author is no admin")
        token = self.living(body["token"])
        version = self.existing(token, body["version"])
        drop, add = body["drop"], by_digest(body["add"])
        need(drop or add, "a reseal of nothing")
        need(all(digest in version.seals for digest in drop), "a dropped seal that the version does not have")
        kept = {digest: seal for digest, seal in version.seals.items() if digest not in drop}
        higher = body["threshold"] > version.threshold and not kept
        need(body["threshold"] == version.threshold or higher, "another threshold")
        names = {token.name, version.name}
        self.check_new_seals(body["add"], names)
        seals = kept | add
        self.check_seals(seals, body["threshold"])
        if self.settings["quorum"] >= 2:
            for device_id in set(recipients_of(version.seals)) - set(recipients_of(seals)):
                need(not self.may_receive(device_id, names), f"it takes it from {device_id}")
        self.digests.update(add)
        version.seals, version.threshold = seals, body["threshold"]

    def judge_state(self, statement, body):
        token, number, state = self.living(body["token"]), body["version"], body["state"]
        need(statement.author.may("write", token.name), "no role `write`")
        need(state != "staged", "never back to staged")
        need(is_text(body["reason"]), "a reason that is no text")
        if number == 0:
            token.suspended = {"suspended": True, "active": False}.get(state, token.suspended)
            usable = [version for version in token.versions.values() if version.state not in ("revoked", "destroyed")]
            for version in usable if state == "revoked" else []:
                version.state, version.reason = state, body["reason"]
            return
        version = self.existing(token, number)
        need(version.state != "revoked", "revoked is final")
        was_staged = version.state == "staged"
        need(not was_staged or state != "suspended", "a staged version is not suspended")
        activated = was_staged and state == "active"
        need(not activated or version.threshold >= self.least_threshold(token.name), "a threshold that is too low")
        version.state, version.reason = state, body["reason"]
        if activated:
            prune(token, number)

    def judge_destroy(self, statement, body):
        need(statement.author.is_admin(), "its author is no admin")
        token = self.living(body["token"])
        need(token.name == body["name"], "the token has another name")
        need(is_text(body["reason"]), "a reason that is no text")
        if body["version"] == 0:
            versions = [version for version in token.versions.values() if version.state != "destroyed"]
            token.destroyed, token.policy = True, None
            gone = {"token": body["token"]}
            self.grants = {grant: value for grant, value in self.grants.items() if value["subject"] != gone}
        else:
            versions = [self.existing(token, body["version"])]
        for version in versions:
            version.state, version.reason = "destroyed", body["reason"]

    def judge_rename(self, statement, body):
        token = self.living(body["token"])
        for name in (body["from"], body["to"]):
            need(is_name(name), "a name")
            need(all(statement.author.may(role, name) for role in ("write", "grant")), "no role `write` or `grant`")
        need(token.name == body["from"], "the token has another name")
        need(self.is_free(body["to"]), "another token has the new name")
        usable = [version for version in token.versions.values() if version.state not in ("revoked", "destroyed")]
        least = self.least_threshold(body["to"])
        need(all(version.threshold >= least for version in usable), "the new name asks for a higher threshold")
        token.name = body["to"]

    # Grants and policies.

    def place(self, target):
        """The name or prefix that roles must cover."""
        if "token" in target:
            return self.living(target["token"]).name
        need(is_prefix(target["prefix"]), "a prefix")
        return target["prefix"]

    def judge_grant(self, statement, body):
        need(statement.author.may("grant", self.place(body["subject"])), "no role `grant`")
        need(body["to"] != "" and is_text(body["to"]), "a grantee")
        need(body["ops"] and all(map(is_segment, body["ops"])), "operations")
        need(body["grant"] not in self.grants, "this grant stands already")
        if body["as"] is not None:
            need("token" in body["subject"] and is_segment(body["as"]), "an alias")
            taken = [(grant["to"], grant["as"]) for grant in self.grants.values()]
            need((body["to"], body["as"]) not in taken, "an alias that is taken")
        self.grants[body["grant"]] = body

    def judge_ungrant(self, statement, body):
        need(statement.author.may("grant", self.place(body["subject"])), "no role `grant`")
        standing = self.grants.get(body["grant"])
        need(standing and standing["subject"] == body["subject"], "no such grant")
        del self.grants[body["grant"]]

    def judge_policy(self, statement, body):
        author, target, policy = statement.author, body["subject"], body["policy"]
        place = self.place(target)
        both = author.has("write", place) and author.has("open", place)
        need(author.is_admin() or both, "neither admin nor `write` and `open`")
        if policy:
            need(policy["period"] >= 1 and policy["period"] > policy["overlap"], "a period")
            need(is_segment(policy["hook"]) and are_labels(policy["params"]), "a hook or parameters")
        if "token" in target:
            self.tokens[target["token"]].policy = policy
        else:
            self.prefix_policies[place] = policy

    # The store.

    def judge_anchor(self, statement, body):
        need(statement.author.is_admin(), "its author is no admin")
        device, counter = self.active_device(body["device"]), body["counter"]
        need(not counter or (counter["index"] < 1 << 32 and counter["start"] < 1 << 63), "a counter")
        device.anchor = counter

    def judge_repair(self, statement, body):
        need(statement.author.is_admin(), "its author is no admin")
        stands = (body["kept"] + 1, body["chain"]) == (statement.position, statement.chain)
        need(stands, "a repair stands right after what it kept")
        need(is_text(body["reason"]), "a reason that is no text")

    def set(self, body):
        check_settings(body)
        admins, witnesses = len(self.having("admin")), body["witnesses"]
        need(body["quorum"] <= self.settings["quorum"] or body["quorum"] < admins, "a quorum of all admins")
        need(not witnesses or witnesses["count"] < len(self.having("witness")), "as many witnesses as there are")
        for device_id in body["recovery"]:
            device = self.active_device(device_id)
            need(device.opens_everything() and "aes256" not in device.opening, "a recovery device")
        self.settings = body

    # Proposals.

    def close_proposals_about(self, what):
        self.proposals = {id: proposal for id, proposal in self.proposals.items() if proposal.about() != what}

    def open_proposal(self, statement, body):
        need(statement.author.is_admin(), "its author is no admin")
        need(body["proposal"] in self.proposals, "no such proposal is open")
        return self.proposals[body["proposal"]]

    def judge_propose(self, statement, body):
        author = statement.author
        need(author.is_admin(), "its author is no admin")
        need(self.settings["quorum"] >= 2, "no proposals while the quorum is 1")
        need(statement.time <= body["until"] <= statement.time + 90 * DAY, "open for at most 90 days")
        own = [proposal for proposal in self.proposals.values() if proposal.proposer == author.id]
        need(len(own) < 16, "16 open proposals")
        checks = {
            "enrol": check_enrolment,
            "retire": lambda change: need(is_text(change["reason"]), "a reason that is no text"),
            "roles": lambda change: need(are_roles(change["roles"]), "a prefix"),
            "settings": check_settings,
        }
        checks[body["kind"]](body["body"])
        proposal = Proposal(author.id, body["until"], body["kind"], body["body"], {author.id})
        self.proposals[statement.hash] = proposal

    def judge_approve(self, statement, body):
        proposal, author = self.open_proposal(statement, body), statement.author.id
        need(author not in proposal.agreed | proposal.rejected, "it agreed or rejected before")
        need(statement.time <= proposal.until, "the proposal has expired")
        if len(proposal.agreed) + 1 >= self.settings["quorum"]:
            carry_out = {"enrol": self.enrol, "retire": self.retire, "roles": self.give_roles, "settings": self.set}
            carry_out[proposal.kind](proposal.body)
            self.close_proposals_about(proposal.about())
        else:
            proposal.agreed.add(author)

    def judge_reject(self, statement, body):
        proposal, author = self.open_proposal(statement, body), statement.author.id
        need(is_text(body["reason"]), "a reason that is no text")
        need(author not in proposal.rejected, "it rejected before")
        proposal.agreed.discard(author)
        proposal.rejected.add(author)
        left = [device for device in self.having("admin") if device.id not in proposal.rejected]
        if author == proposal.proposer or len(left) < self.settings["quorum"]:
            del self.proposals[body["proposal"]]


def by_digest(seals):
    return {seal["digest"]: seal for seal in seals}


def recipients_of(seals):
    return [device for seal in seals.values() for device in seal["recipients"]]


def check_enrolment(body):
    """What is wrong whatever the state of the store: judged when it is proposed, too."""
    need(is_segment(body["name"]), "a device's name")
    same = comparable(body["opening"]["key"]) == comparable(body["signing"]["key"])
    need(not same, "one key for both opening and signing")
    need(is_text(body["model"]) and is_text(body["serial"]), "a model or serial number")
    for slot in (body["opening"], body["signing"]):
        need(is_text(slot["uri"]), "a URI")
        need(all(is_text(claim, 256) for claim, _ in slot["claims"]), "a claim")
        need(len(slot["material"]) // 2 <= 16_384, "material of more than 16,384 bytes")
    need(are_roles(body["roles"]), "a prefix")


def check_settings(body):
    """What is wrong whatever the state of the store."""
    witnesses = body["witnesses"]
    need(1 <= body["quorum"] <= 16, "a quorum is 1 to 16")
    need(not witnesses or 1 <= witnesses["count"] <= 16, "1 to 16 witnesses")
    need(not witnesses or witnesses["max-age"] >= 1000, "a max age of at least 1,000 ms")
    for prefix, least in body["thresholds"]:
        need(is_prefix(prefix) and 2 <= least <= 254, "a threshold")


def prune(token, number):
    """What happens once, when a version with `keep` becomes active."""
    keep = token.versions[number].keep
    if keep is None:
        return
    usable = [n for n, version in token.versions.items() if version.state in ("active", "suspended") and n != number]
    for n in sorted(usable, reverse=True)[keep - 1 :]:
        token.versions[n].state, token.versions[n].reason = "revoked", "pruned"
