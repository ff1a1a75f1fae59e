"""The public log of a device: docs/format/v1.md, section 6, rules V1 to V12, V16 and V17."""

import base64
import hashlib
import json
import re
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_BODY = 1 << 20
MAX_CHECKPOINT = 1 << 16
MAX_INT = (1 << 53) - 1
EPOCH_USEC = 60_000_000
RECORD = re.compile(r"[FG](?!0{8})[0-9]{8}")
SEGMENT = re.compile(r"[TVPAX](?!0{6})[0-9]{6}")
SEGMENT_FILE = re.compile(r"([TVPAX](?!0{6})[0-9]{6})(\.open)?\.age")
KEY_FILE = re.compile(r"flight\.(?:((?=[APV])A?P?V?)\.)?key(\.([2-9]|[1-9][0-9]))?\.age")
GROUP_PUB = re.compile(r"flight\.((?=[APV])A?P?V?)\.pub")
GROUP = re.compile(r"(?=[APV])A?P?V?")


class Bad(Exception):
    """Bytes that are not of the format."""


def is_name(pattern, text):
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def number(record):
    return int(record[1:])


# --- leaves (6.1, 6.4) -----------------------------------------------------

def crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def integer(value):
    return type(value) is int and 0 <= value <= MAX_INT


def positive(value):
    return integer(value) and value > 0


def raw(size):
    def check(value):
        data = from_base64(value)
        return data is not None and len(data) == size
    return check


def from_base64(text):
    """Return the bytes, or None where text is not canonical base64."""
    if not isinstance(text, str):
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == text else None


def word(*words):
    return lambda value: isinstance(value, str) and value in words


def name(pattern):
    return lambda value: is_name(pattern, value)


def in_order(keys):
    return all(a < b for a, b in zip(keys, keys[1:]))


def recovered_file(file):
    shape = {"name": name(SEGMENT_FILE), "sha256": raw(32), "size": integer}
    signed = {"name": lambda n: is_name(SEGMENT_FILE, n) and n.endswith(".open.age"),
              "signed_sha256": raw(32), "signed_size": integer}
    return fits(file, shape) or fits(file, {**shape, **signed})


def recovered_files(files):
    return (isinstance(files, list) and all(recovered_file(f) for f in files)
            and in_order([f["name"] for f in files]))


def group_of(file):
    """Return the key group of a file's name; "" for the flight's own, None for other files."""
    match = KEY_FILE.fullmatch(file) or GROUP_PUB.fullmatch(file)
    return (match.group(1) or "") if match else None


def key_files(files, group=""):
    shape = {"data": from_base64, "name": name(KEY_FILE)}
    return (isinstance(files, list) and files and all(fits(f, shape) for f in files)
            and all(group_of(f["name"]) == group for f in files)
            and in_order([(len(f["name"]), f["name"]) for f in files]))


def recipient(value):
    return isinstance(value, str) and value.startswith("age1")


def key_groups(groups):
    """Tell a list of key groups: not empty, in order, no stream twice."""
    shape = {"files": lambda f: True, "pub": recipient, "recipients": fingerprints,
             "streams": name(GROUP)}
    if not isinstance(groups, list) or not groups or not all(fits(g, shape) for g in groups):
        return False
    names = [g["streams"] for g in groups]
    letters = "".join(names)
    return (in_order(names) and len(set(letters)) == len(letters)
            and all(key_files(g["files"], g["streams"]) for g in groups))


def fingerprints(values):
    return (isinstance(values, list) and values
            and all(is_name(re.compile("[0-9a-f]{32}"), v) for v in values))


def streams(value):
    return (isinstance(value, dict)
            and all(k in list("TVPAX") and positive(n) and n < 10**6 for k, n in value.items()))


def policy(value):
    return fits(value, {"flush_armed_usec": integer, "flush_idle_usec": integer,
                        "record": word("always", "armed"), "when_full": word("stop", "oldest")})


def fits(value, shape):
    return (isinstance(value, dict) and value.keys() == shape.keys()
            and all(check(value[key]) for key, check in shape.items()))


SHAPES = {
    "B": {"boot": positive, "key": raw(32), "sig": raw(64), "signed": integer, "torn": integer,
          "slots": word("good", "torn", "bad", "none"), "v": lambda v: type(v) is int and v == 1},
    "L": {"grade": word("A", "B", "none"), "lock": word("locked", "bench", "open"),
          "refused": integer},
    "R": {"record": name(RECORD), "files": recovered_files},
    "K": {"record": name(RECORD), "files": key_files, "policy": policy,
          "recipients": fingerprints, "pub": recipient},
    "O": {"record": name(RECORD), "segment": name(SEGMENT)},
    "C": {"record": name(RECORD), "segment": name(SEGMENT), "size": integer, "sha256": raw(32),
          "from": integer, "to": integer, "frames": integer},
    "Z": {"record": name(RECORD), "segments": streams},
    "E": {"boot": positive, "epoch": positive, "key": raw(32), "sig": raw(64)},
}
LOST = {"record": name(RECORD), "why": word("deleted", "undone", "failed", "refused")}


def shape_of(kind, body):
    if kind == "L" and body.get("lock") == "open" and "ticket" in body:
        return {"t": integer, "ticket": name(re.compile("[0-9a-f]{32}")), **SHAPES[kind]}
    if kind == "K" and "groups" in body:
        return {"t": integer, "groups": key_groups, **SHAPES[kind]}
    if kind != "X":
        return {"t": integer, **SHAPES[kind]}
    shape = {"t": integer, **LOST}
    why = body.get("why")
    if why in ("failed", "refused") or why == "undone" and "segment" in body:
        shape["segment"] = name(SEGMENT)
    if why == "failed":
        shape.update(size=integer, sha256=raw(32))
    return shape


def refuse(text):
    raise Bad("a number that is no integer: %s" % text[:20])


def parse_body(kind, body):
    """Return the object of a leaf; Bad where it is not canonical or not of its kind."""
    if kind != "X" and kind not in SHAPES:
        raise Bad("unknown kind")
    if any(c < 0x20 or c > 0x7E or c in b"\\<>&" for c in body):
        raise Bad("a character that no body has")
    try:
        value = json.loads(body, parse_float=refuse, parse_constant=refuse)
        again = json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as e:
        raise Bad("not JSON") from e
    if not isinstance(value, dict) or again.encode() != body:
        raise Bad("not canonical")
    if not fits(value, shape_of(kind, value)):
        raise Bad("not the keys and values of kind " + kind)
    return value


def read_leaves(file):
    """Yield (kind, object, hash, size) for each whole leaf; Bad at one that is not canonical."""
    while True:
        head = file.read(5)
        if len(head) < 5:
            return
        size = struct.unpack(">I", head[:4])[0]
        if not 2 <= size <= MAX_BODY:
            return
        rest = file.read(size + 4)
        if len(rest) < size + 4 or crc32c(head + rest[:size]).to_bytes(4, "big") != rest[size:]:
            return
        kind = chr(head[4])
        value = parse_body(kind, rest[:size])
        yield kind, value, hashlib.sha256(b"\0" + head[4:] + rest[:size]).digest(), size + 9


class Tree:
    """The roots of the perfect subtrees of the leaves so far (RFC 6962)."""

    def __init__(self):
        self.size, self.roots = 0, []

    def add(self, leaf):
        n = self.size
        while n & 1:
            leaf = hashlib.sha256(b"\1" + self.roots.pop() + leaf).digest()
            n >>= 1
        self.roots.append(leaf)
        self.size += 1

    def root(self):
        if not self.roots:
            return hashlib.sha256(b"").digest()
        node = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            node = hashlib.sha256(b"\1" + left + node).digest()
        return node


# --- keys and checkpoints (6.2, 6.3) ---------------------------------------

def b64(data):
    return base64.b64encode(data).decode()


def signed_by(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_hash(device, key):
    return hashlib.sha256(b"holdfast-" + device.encode() + b"\n\1" + key).digest()[:4]


def parse_device_key(text):
    """Return (device8, key) of a verifier line; Bad where it is not canonical."""
    match = re.fullmatch(r"holdfast-([0-9a-f]{8})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)\n?", text)
    data = from_base64(match.group(3)) if match else None
    if data is None or len(data) != 33 or data[0] != 1:
        raise Bad("not a verifier line of a device")
    device, key = match.group(1), data[1:]
    own = hashlib.sha256(key).hexdigest()[:8], key_hash(device, key).hex()
    if own != (device, match.group(2)):
        raise Bad("name or hash is not that of its key")
    return device, key


NUMBER = "(0|[1-9][0-9]{0,15})"
HASH = "([A-Za-z0-9+/]{43}=)"
CHECKPOINT = re.compile(
    "holdfast-([0-9a-f]{8})\n" + NUMBER + "\n" + HASH + "\n"
    + "boot " + " ".join([NUMBER] * 3) + " " + HASH + "\n"
    + "log " + NUMBER + "\nnext " + NUMBER + "\n"
    + "(?:live ([FG0-9 ]+)\n)?(?:deleting ([FG0-9 ]+)\n)?frontier((?: [A-Za-z0-9+/=]{44})*)\n"
    + "((?:open [^\n]+\n)*)(?:pad x+\n)?")
OPEN = re.compile("open ([FG][0-9]{8})/([TVPAX][0-9]{6}\\.open\\.age) " + NUMBER + " " + HASH)
SIGNATURE = re.compile("\u2014 holdfast-([0-9a-f]{8}) ([A-Za-z0-9+/=]{92})\n")


def must(value):
    if value is None or value is False:
        raise Bad("a line that is not of the format")
    return value


def parse_checkpoint(data):
    """Return the fields of a well-formed checkpoint (its own key signs it); Bad otherwise."""
    if data is None or len(data) > MAX_CHECKPOINT or len(data) % 512:
        raise Bad("not the size of a checkpoint")
    try:
        text, _, line = data.decode().rpartition("\n\n")
    except UnicodeDecodeError as e:
        raise Bad("not text") from e
    text += "\n"
    m, s = must(CHECKPOINT.fullmatch(text)), must(SIGNATURE.fullmatch(line))
    cp = {"device": m.group(1), "size": int(m.group(2)), "root": must(from_base64(m.group(3))),
          "boot": int(m.group(4)), "epoch": int(m.group(5)), "t": int(m.group(6)),
          "key": must(from_base64(m.group(7))), "log": int(m.group(8)), "next": int(m.group(9)),
          "live": names(m.group(10)), "deleting": names(m.group(11)),
          "frontier": [must(from_base64(h)) for h in m.group(12).split()],
          "open": [open_line(line) for line in m.group(13).splitlines()], "data": data}
    must(max(cp[k] for k in ("size", "boot", "epoch", "t", "log", "next")) <= MAX_INT)
    must(len(cp["open"]) <= 64 and len(cp["frontier"]) <= 64)
    must(in_order([o["record"] + "/" + o["file"] for o in cp["open"]]))
    signature = must(from_base64(s.group(2)))
    must(s.group(1) == cp["device"] and signature[:4] == key_hash(cp["device"], cp["key"]))
    must(signed_by(cp["key"], signature[4:], text.encode()))
    return cp


def names(text):
    values = text.split(" ") if text is not None else []
    must(len(values) <= 255 and all(is_name(RECORD, v) for v in values))
    must(in_order([number(v) for v in values]))
    return values


def open_line(line):
    m = must(OPEN.fullmatch(line))
    must(is_name(RECORD, m.group(1)) and is_name(SEGMENT, m.group(2)[:7]))
    must(int(m.group(3)) <= MAX_INT)
    return {"record": m.group(1), "file": m.group(2), "bytes": int(m.group(3)),
            "sha256": must(from_base64(m.group(4)))}


# --- the log as a whole (6.6) ----------------------------------------------

class Record:
    """What the log says about one record."""

    def __init__(self, name, boot, leaf):
        self.name, self.boot, self.leaf = name, boot, leaf  # leaf: index of its K
        self.keys = {}      # of leaf K: group: {name: data}; "" is the flight's own
        self.pubs = {}      # of leaf K: group: line of its recipient
        self.segments = {}  # name: Segment
        self.files = {}     # of leaf R: name of a file: (size, sha256)
        self.signed = {}    # of leaf R: name of a file: (signed_size, signed_sha256)
        self.ended = None   # index of Z or R
        self.recovered = self.undone = False
        self.deleted = None  # index of X deleted

    def running(self):
        return self.ended is None and not self.undone


class Segment:
    def __init__(self, begun):
        self.begun = begun     # index of its O; None where X undone alone names it
        self.closed = None     # (index, size, sha256) of its C
        self.failed = None     # (index, size, sha256) of its X failed
        self.undone = False
        self.gone = None       # index of its X undone or refused

    def ended(self):
        return self.closed or self.failed or self.gone is not None


class Log:
    """Walks the leaves in order and keeps what the files are held against."""

    def __init__(self, device, device_key, wanted):
        self.device, self.device_key = device, device_key
        self.wanted = set(wanted)  # numbers of leaves at which a snapshot is needed
        self.tree, self.bytes, self.proven = Tree(), 0, 0
        self.records, self.next, self.findings = {}, 1, []
        self.boot = self.epoch = self.began = self.last = 0
        self.key, self.trusted, self.fresh, self.plain = None, False, False, True
        self.lock = None  # the newest L of this boot
        self.snapshots = {}
        self.snapshot()

    def find(self, rule, what, state="tampered", **place):
        place.setdefault("file", "LOG/log.bin")
        self.findings.append({"rule": rule, "state": state, "what": what, **place})

    def breach(self, rule, what, state="tampered"):
        self.find(rule, what, state, leaf=self.tree.size, byte=self.bytes)

    def snapshot(self):
        if self.tree.size in self.wanted:
            live = [n for n, r in self.records.items() if r.running()]
            self.snapshots[self.tree.size] = {
                "root": self.tree.root(), "frontier": list(self.tree.roots), "log": self.bytes,
                "next": self.next, "live": sorted(live, key=number), "key": self.key,
                "boot": self.boot, "epoch": self.epoch, "began": self.began, "last": self.last,
                "trusted": self.trusted,
                "deleted": {n for n, r in self.records.items() if r.deleted is not None}}

    def add(self, kind, leaf, digest, size):
        if self.tree.size == 0 and kind != "B":
            self.breach("V1", "the first leaf is no B")
        if kind != "B" and leaf["t"] < self.last:
            self.breach("V4", "time goes back")
        if kind not in "BE" and self.key and (leaf["t"] - self.began) // EPOCH_USEC != self.epoch:
            self.breach("V3", "a leaf outside its epoch")
        self.plain = self.plain and kind in "BLE"
        self.last = leaf["t"]
        getattr(self, "leaf_" + kind)(leaf)
        self.tree.add(digest)
        self.bytes += size
        self.snapshot()

    def message(self, what, leaf, *numbers):
        """Return what is signed in a B or E; numbers go before the leaf's own."""
        lines = ["holdfast/v1 " + what, self.device, *numbers, self.tree.size,
                 b64(self.tree.root()), leaf["key"]]
        return "".join("%s\n" % line for line in lines).encode()

    def leaf_B(self, leaf):
        if leaf["boot"] != self.boot + 1:
            self.breach("V1", "boot %d follows boot %d" % (leaf["boot"], self.boot))
        if leaf["signed"] > self.tree.size:
            self.breach("V5", "%d leaves were gone" % (leaf["signed"] - self.tree.size), "missing")
        if leaf["slots"] == "bad":
            self.breach("V5", "both checkpoints were bad when this boot began")
        facts = leaf["t"], leaf["signed"], leaf["slots"], leaf["torn"]
        message = self.message("boot", leaf, leaf["boot"], *facts)
        signature = from_base64(leaf["sig"])
        self.trusted = bool(self.device_key) and signed_by(self.device_key, signature, message)
        if self.trusted:
            self.proven = self.tree.size + 1
        elif self.device_key:
            self.breach("V2", "a boot's signature is not right under the device key")
        self.boot, self.epoch, self.began, self.fresh = leaf["boot"], 0, leaf["t"], True
        self.lock = None
        self.take_key(leaf)

    def take_key(self, leaf):
        self.key = from_base64(leaf["key"])

    def leaf_E(self, leaf):
        message = self.message("epoch", leaf, leaf["boot"], leaf["epoch"], leaf["t"])
        good = self.key and signed_by(self.key, from_base64(leaf["sig"]), message)
        if not good and self.trusted:  # otherwise it was said where the chain broke
            self.breach("V3", "an epoch's signature is not right under the key in force")
        if leaf["boot"] != self.boot or leaf["epoch"] != self.epoch + 1:
            self.breach("V3", "epoch %d of boot %d follows epoch %d of boot %d"
                        % (leaf["epoch"], leaf["boot"], self.epoch, self.boot))
        if leaf["t"] < self.began + leaf["epoch"] * EPOCH_USEC:
            self.breach("V3", "an epoch before its time")
        self.trusted = self.trusted and bool(good)
        if self.trusted:
            self.proven = self.tree.size + 1
        self.epoch = leaf["epoch"]
        self.take_key(leaf)

    def leaf_L(self, leaf):
        self.fresh, self.lock = False, leaf

    def leaf_R(self, leaf):
        r = self.records.get(leaf["record"])
        if not self.fresh or r is None or r.undone or r.ended is not None or r.boot == self.boot:
            self.breach("V8", "R of %s has no place here" % leaf["record"])
        if r is not None:
            r.ended = self.tree.size if r.ended is None else r.ended
            r.recovered = True
            r.files = {f["name"]: (f["size"], from_base64(f["sha256"])) for f in leaf["files"]}
            r.signed = {f["name"]: (f["signed_size"], from_base64(f["signed_sha256"]))
                        for f in leaf["files"] if "signed_size" in f}

    def leaf_K(self, leaf):
        if any(r.boot != self.boot and r.running() for r in self.records.values()):
            self.breach("V8", "a record that a cut ended has no R")
        if self.lock is None or "ticket" in self.lock:
            self.breach("V17", "%s was begun without an L, or while the lock was open for a ticket"
                        % leaf["record"])
        self.fresh = False
        r = self.begin(leaf["record"])
        if r:
            for g in [{**leaf, "streams": ""}] + leaf.get("groups", []):
                r.keys[g["streams"]] = {f["name"]: from_base64(f["data"]) for f in g["files"]}
                r.pubs[g["streams"]] = g["pub"]

    def begin(self, record):
        if number(record) != self.next or record in self.records:
            self.breach("V6", "%s where number %d is due" % (record, self.next))
        if record in self.records:
            return None
        self.next = max(self.next, number(record)) + 1
        self.records[record] = Record(record, self.boot, self.tree.size)
        return self.records[record]

    def running(self, leaf):
        """Return the record of a leaf; None, and a breach, where it is not running."""
        r = self.records.get(leaf["record"])
        if r is None or r.undone or r.ended is not None:
            self.breach("V7", "a leaf of %s, which is not running" % leaf["record"])
            return None
        return r

    def number_segment(self, r, segment, begun):
        highest = max((int(s[1:]) for s in r.segments if s[0] == segment[0]), default=0)
        if int(segment[1:]) != highest + 1:
            self.breach("V7", "%s/%s where number %d is due" % (r.name, segment, highest + 1))
        return r.segments.setdefault(segment, Segment(begun))

    def leaf_O(self, leaf):
        r = self.running(leaf)
        if r:
            self.number_segment(r, leaf["segment"], self.tree.size)

    def leaf_C(self, leaf):
        s = self.begun(leaf)
        if s:
            if s.closed or s.undone:
                self.breach("V7", "a second end of " + leaf["segment"])
            s.closed = (self.tree.size, leaf["size"], from_base64(leaf["sha256"]))

    def begun(self, leaf):
        r = self.running(leaf)
        if r is None:
            return None
        if leaf["segment"] not in r.segments:
            self.breach("V7", "%s/%s was not begun" % (r.name, leaf["segment"]))
        return r.segments.setdefault(leaf["segment"], Segment(self.tree.size))

    def leaf_X(self, leaf):
        getattr(self, "lost_" + leaf["why"])(leaf)

    def lost_deleted(self, leaf):
        r = self.records.get(leaf["record"])
        if r is None or r.undone or r.ended is None or r.deleted is not None:
            self.breach("V9", "%s cannot be deleted here" % leaf["record"])
        else:
            r.deleted = self.tree.size

    def lost_undone(self, leaf):
        if "segment" not in leaf:
            r = self.begin(leaf["record"])
            if r:
                r.undone = True
            return
        r = self.running(leaf)
        if r is None:
            return
        s = r.segments.get(leaf["segment"])
        if s is None:
            s = self.number_segment(r, leaf["segment"], None)
        elif s.ended():
            self.breach("V7", "%s was ended before" % leaf["segment"])
        s.undone, s.gone = True, self.tree.size

    def lost_failed(self, leaf):
        s = self.begun(leaf)
        if s:
            s.failed = (self.tree.size, leaf["size"], from_base64(leaf["sha256"]))

    def lost_refused(self, leaf):
        s = self.begun(leaf)
        if s:
            s.gone = self.tree.size

    def leaf_Z(self, leaf):
        r = self.running(leaf)
        if r is None:
            return
        highest = {}
        for name, s in r.segments.items():
            if not s.ended():
                self.breach("V7", "%s/%s has not ended" % (r.name, name))
            if not s.undone:
                highest[name[0]] = max(highest.get(name[0], 0), int(name[1:]))
        if highest != leaf["segments"]:
            self.breach("V7", "%s does not end with the segments it has" % r.name)
        r.ended = self.tree.size if r.ended is None else r.ended

    # --- checkpoints and heads

    def check_slot(self, cp, file, rule="V10"):
        """Hold a well-formed checkpoint against the log; True where its signature counts."""
        if cp["device"] != self.device:
            self.find(rule, "a checkpoint of another device", file=file)
            return False
        s = self.snapshots.get(cp["size"])
        if s is None:
            return False  # more leaves than there are: V12
        wrong = [k for k in ("key", "boot", "epoch", "root", "log", "next", "live", "frontier")
                 if cp[k] != s[k]]
        epoch = (cp["t"] - s["began"]) // EPOCH_USEC
        if not wrong and (cp["t"] < s["last"] or epoch != s["epoch"]):
            wrong = ["time"]
        if not set(cp["deleting"]) <= s["deleted"]:
            wrong.append("deleting")
        if not s["trusted"] and rule == "V16" and not wrong:
            wrong = ["no right signature leads to its key"]
        if wrong and (s["trusted"] or rule == "V16"):
            self.find(rule, "a checkpoint that is not of this log: " + ", ".join(wrong), file=file)
        if wrong or not s["trusted"]:
            return False
        self.proven = max(self.proven, cp["size"])
        return True

    def check_head(self, cp):
        missing = cp["size"] - self.tree.size
        if missing > 0:
            self.find("V16", "%d leaves missing against the head" % missing, "missing")
        else:
            return self.check_slot(cp, "the head", "V16")
        return False
