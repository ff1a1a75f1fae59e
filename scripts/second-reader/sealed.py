"""Sealed files: age (age-encryption.org/v1) and what is in a segment, sections 2, 3 and 5.

X25519 files are read here. Hybrid ones go through the stock age program, zstd frames that
are compressed through the stock zstd program.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAGIC = b"age-encryption.org/v1\n"
CHUNK = 65536
MAX_KEY_FILE = 65536
MAX_DEPTH = 4
META, NOISE, SENT, PAD = 0x184D2A50, 0x184D2A51, 0x184D2A52, 0x184D2A5F
ZSTD = 0xFD2FB528
LIMITS = {META: 1 << 20, NOISE: 8 << 20, SENT: 1 << 20, PAD: 1 << 18}
MAX_FRAME = 16 << 20
MAX_LINE = 4096  # of stream X
MAX_OFFSET = 1 << 40  # in a file: what comes is taken at its place, and holes take no room


class NoIdentity(Exception):
    """None of the identities fits."""


class Damaged(Exception):
    """Bytes that are not what was written."""


# --- age files of X25519 recipients ----------------------------------------

def unpadded(text):
    data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    if base64.b64encode(data).rstrip(b"=") != text:
        raise Damaged("not canonical base64 in an age header")
    return data


def parse_header(data):
    """Return ([(arguments, body)], bytes under the MAC, MAC, rest)."""
    lines, at, stanzas = data.split(b"\n"), 1, []
    if lines[0] + b"\n" != MAGIC:
        raise Damaged("not an age file")
    try:
        while lines[at].startswith(b"-> "):
            arguments, body = lines[at][3:].split(b" "), b""
            while True:
                at += 1
                body += unpadded(lines[at])
                if len(lines[at]) < 64:
                    break
            stanzas.append((arguments, body))
            at += 1
        if not lines[at].startswith(b"--- "):
            raise Damaged("no end of the age header")
        mac = unpadded(lines[at][4:])
    except (IndexError, ValueError) as e:
        raise Damaged("no age header") from e
    signed = b"\n".join(lines[:at]) + b"\n---"
    return stanzas, signed, mac, data[len(signed) + len(lines[at]) - 2:]


def hkdf(key, salt, info):
    return HKDF(SHA256(), 32, salt, info).derive(key)


def decode_identity(text):
    """Return the 32 bytes of AGE-SECRET-KEY-1... (bech32)."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    values = [alphabet.index(c) for c in text.lower()[len("age-secret-key-1"):]]
    bits = "".join(format(v, "05b") for v in values[:-6])
    return bytes(int(bits[i:i + 8], 2) for i in range(0, 256, 8))


def file_key(stanzas, identities):
    for text in identities:
        mine = X25519PrivateKey.from_private_bytes(decode_identity(text))
        public = mine.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        for arguments, body in stanzas:
            if arguments[0] != b"X25519" or len(arguments) != 2 or len(body) != 32:
                continue
            share = unpadded(arguments[1])
            try:
                shared = mine.exchange(X25519PublicKey.from_public_bytes(share))
                wrap = hkdf(shared, share + public, b"age-encryption.org/v1/X25519")
                return ChaCha20Poly1305(wrap).decrypt(bytes(12), body, None)
            except (InvalidTag, ValueError):
                continue
    return None


def open_x25519(data, identities):
    """Return the plaintext of a whole age file; NoIdentity or Damaged otherwise."""
    stanzas, signed, mac, rest = parse_header(data)
    key = file_key(stanzas, identities)
    if key is None:
        raise NoIdentity()
    right = hmac.new(hkdf(key, None, b"header"), signed, hashlib.sha256).digest()
    if not hmac.compare_digest(right, mac):
        raise Damaged("the age header does not authenticate")
    cipher, sealed, plain = ChaCha20Poly1305(hkdf(key, rest[:16], b"payload")), rest[16:], b""
    pieces = [sealed[i:i + CHUNK + 16] for i in range(0, len(sealed), CHUNK + 16)]
    if not pieces or len(pieces) > 1 and len(pieces[-1]) <= 16:
        raise Damaged("no closing chunk")
    for i, piece in enumerate(pieces):
        nonce = i.to_bytes(11, "big") + (b"\1" if i == len(pieces) - 1 else b"\0")
        try:
            plain += cipher.decrypt(nonce, piece, None)
        except (InvalidTag, ValueError) as e:
            raise Damaged("a chunk does not authenticate") from e
    return plain


class Age:
    """The stock age program, for hybrid recipients. Identities lie in a folder of its own."""

    def __init__(self, program):
        self.program = shutil.which(program or os.environ.get("AGE") or "age")
        self.folder = tempfile.mkdtemp(prefix="second-reader-")

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def identity(self, text):
        file, path = tempfile.mkstemp(dir=self.folder)
        with os.fdopen(file, "w", encoding="ascii") as f:
            f.write(text)
        return path

    def start(self, source, identity):
        if not self.program:
            raise FileNotFoundError("no age program; name one with --age")
        return subprocess.Popen([self.program, "-d", "-i", identity], stdin=source,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def whole(self, data, identity):
        with tempfile.TemporaryFile(dir=self.folder) as source:
            source.write(data)
            source.seek(0)
            with self.start(source, identity) as p:
                out, errors = p.communicate()
        if p.returncode == 0:
            return out
        raise NoIdentity() if b"no identity matched" in errors else Damaged("age refuses it")


class Keys:
    """The identities of the operator."""

    def __init__(self, files, age):
        self.files, self.age, self.classic = files, age, []
        for path in files:
            with open(path, encoding="utf-8") as f:
                lines = [line.strip() for line in f.read(1 << 20).splitlines()]
            secrets = [line for line in lines if line and not line.startswith("#")]
            if not secrets or not all(s.startswith("AGE-SECRET-KEY-") for s in secrets):
                raise ValueError("%s: no age identity" % path)
            self.classic += [s for s in secrets if s.startswith("AGE-SECRET-KEY-1")]

    def unlock(self, data, depth=1):
        """Return the secret line of a flight from one of its wrapped copies."""
        if len(data) > MAX_KEY_FILE or depth > MAX_DEPTH:
            raise Damaged("beyond the limits of a flight key")
        plain = self.open(data)
        if plain.startswith(MAGIC):
            return self.unlock(plain, depth + 1)
        if not re.fullmatch(rb"AGE-SECRET-KEY-PQ-1[0-9A-Z]+\n", plain):
            raise Damaged("no flight identity in it")
        return plain.decode("ascii")

    def open(self, data):
        stanzas = parse_header(data)[0]
        if any(arguments[0] == b"X25519" for arguments, _ in stanzas):
            return open_x25519(data, self.classic)
        for path in self.files:
            try:
                return self.age.whole(data, path)
            except NoIdentity:
                continue
        raise NoIdentity()


# --- the plaintext of a segment --------------------------------------------

class Input:
    """A buffer over a pipe that holds no more than a frame."""

    def __init__(self, pipe):
        self.pipe, self.data = pipe, bytearray()

    def want(self, size):
        while len(self.data) < size:
            more = self.pipe.read(max(size - len(self.data), CHUNK))
            if not more:
                return False
            self.data += more
        return True

    def take(self, size):
        data = bytes(self.data[:size])
        del self.data[:size]
        return data

    def word(self, at=0):
        return struct.unpack_from("<I", self.data, at)[0]

    def find_meta(self):
        """Pass over bytes up to the next thing that looks like metadata."""
        while self.want(9):
            at = self.data.find(struct.pack("<I", META))
            if at < 0:
                del self.data[:-3]
                if not self.want(12):
                    return False
                continue
            del self.data[:at]
            if not self.want(9):
                return False
            if 2 <= self.word(4) <= LIMITS[META] and self.data[8:9] == b"{":
                return True
            del self.data[:1]
        return False


def zstd_frame(source):
    """Return (length, raw content or None) of the zstd frame ahead; None where it is cut."""
    if not source.want(18):
        source.want(6)
    head = source.data[:18].ljust(18, b"\0")
    flags, single = head[4], head[4] >> 5 & 1
    if flags & 0x0B:
        raise Damaged("a zstd frame with a dictionary or a reserved bit")
    width = (single, 2, 4, 8)[flags >> 6]
    at = 5 + (1 - single)
    content = int.from_bytes(head[at:at + width], "little") + (256 if width == 2 else 0)
    window = (1 << 10 + (head[5] >> 3)) * (8 + (head[5] & 7)) // 8
    if content > MAX_FRAME or not single and window > MAX_FRAME:
        raise Damaged("a zstd frame beyond the limits")
    at, parts = at + width, []
    while True:
        if at > MAX_FRAME:
            raise Damaged("a zstd frame beyond the limits")
        if not source.want(at + 3):
            return None
        block = int.from_bytes(source.data[at:at + 3], "little")
        kind, size = block >> 1 & 3, block >> 3
        if kind == 3:
            raise Damaged("a reserved zstd block")
        size = 1 if kind == 1 else size
        if not source.want(at + 3 + size):
            return None
        if kind != 0 or parts is None:
            parts = None  # for the stock program
        else:
            parts.append(bytes(source.data[at + 3:at + 3 + size]))
        at += 3 + size
        if block & 1:
            break
    if flags & 4:
        parts, at = None, at + 4
        if not source.want(at):
            return None
    return at, None if parts is None else b"".join(parts)


def unzstd(data):
    """Return the content of one zstd frame by the stock program; Damaged where it has none."""
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.seek(0)
        with subprocess.Popen(["zstd", "-dcq", "-M16MB"], stdin=source, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as p:
            out = p.stdout.read(MAX_FRAME + 1)
            if len(out) > MAX_FRAME:
                p.kill()
        if p.returncode != 0:
            raise Damaged("a zstd frame that cannot be read")
    return out


def blocks(source):
    """Yield (kind, content) of each frame; the kind "bad" where bytes were passed over."""
    while source.want(8):
        magic, size = source.word(), source.word(4)
        try:
            if magic == ZSTD:
                frame = zstd_frame(source)
                if frame is None:
                    return
                length, content = frame
                data = source.take(length)
                yield ZSTD, unzstd(data) if content is None else content
                continue
            if size > LIMITS.get(magic, -1):
                raise Damaged("no frame of this format")
            if not source.want(8 + size):
                return
            source.take(8)
            yield magic, source.take(size)
        except Damaged:
            yield "bad", b""
            del source.data[:1]
            if not source.find_meta():
                return


def entries(data):
    """Yield (stamp, frame) of the .tlog entries in data, up to what is no entry."""
    at = 0
    while at + 11 <= len(data):
        start, payload, flags = data[at + 8], data[at + 9], data[at + 10]
        size = {0xFE: 8, 0xFD: 12 + 13 * (flags & 1)}.get(start, -1) + payload
        if start not in (0xFE, 0xFD) or at + 8 + size > len(data):
            return
        yield struct.unpack_from(">Q", data, at)[0], data[at + 8:at + 8 + size]
        at += 8 + size


def noise_runs(data):
    at = 0
    while at < len(data):
        if at + 22 > len(data):
            raise Damaged("a noise run is cut short")
        size = struct.unpack_from(">I", data, at + 18)[0]
        if at + 22 + size > len(data):
            raise Damaged("a noise run is longer than its frame")
        yield data[at + 22:at + 22 + size]
        at += 22 + size


def sent_runs(data):
    """Yield what was sent, or was to be sent, each with its head."""
    at = 0
    while at < len(data):
        if at + 15 > len(data):
            raise Damaged("a run of what was sent is cut short")
        size = struct.unpack_from(">I", data, at + 11)[0]
        if at + 15 + size > len(data):
            raise Damaged("a run of what was sent is longer than its frame")
        yield data[at:at + 15 + size]
        at += 15 + size


def is_attempt(line):
    """Tell a line of stream X: section 3.6."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return (len(line) <= MAX_LINE and line.endswith(b"\n") and isinstance(value, dict)
            and type(value.get("count")) is int and value["count"] >= 1
            and all(isinstance(value.get(k), str) and value[k] for k in ("layer", "what")))


class Pieces:
    """One file of stream A, V or P. A byte is taken once, from the first whole copy of it."""

    def __init__(self, path):
        self.path, self.ranges = path, []

    def put(self, offset, data):
        end, new = offset + len(data), [(offset, offset + len(data))]
        for low, high in self.ranges:
            new = [part for a, b in new for part in ((a, min(b, low)), (max(a, high), b))
                   if part[0] < part[1]]
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        with open(self.path, "r+b" if os.path.exists(self.path) else "w+b") as file:
            for low, high in new:  # a hole takes no room on the medium
                file.seek(low)
                file.write(data[low - offset:high - offset])
        merged = []
        for low, high in sorted(self.ranges + ([(offset, end)] if data else [])):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        self.ranges = merged

    def digest(self):
        """Return the number of bytes that are there, and their hash in the order of offsets."""
        total, value = 0, hashlib.sha256()
        for low, high in self.ranges:
            with open(self.path, "rb") as file:
                file.seek(low)
                while low < high and (data := file.read(min(1 << 20, high - low))):
                    value.update(data)
                    low, total = low + len(data), total + len(data)
        return total, value.hexdigest()


class Output:
    """telemetry.tlog, noise.bin, sent.bin, audit.jsonl and the files of one record, each block
    once. files.txt names the files."""

    def __init__(self, folder):
        self.folder, self.seen, self.frames, self.lines = folder, set(), 0, 0
        self.tlog = self.noise = self.audit = self.sent = None
        self.files = {}

    def write(self, source, stream):
        """Take what is in one form of a segment; tell whether all of it could be read."""
        meta, good = None, True
        for kind, content in blocks(source):
            if kind == "bad":
                good, meta = False, None
            elif kind == META and content:
                meta = parse_meta(content)
                good = good and meta is not None
            elif kind in (ZSTD, NOISE, SENT) and meta is not None:
                good = self.block(stream, kind, meta, content) and good
        return good

    def block(self, stream, kind, meta, content):
        """Take what one frame holds; tell whether it could be taken."""
        if (stream, kind, meta["block"]) in self.seen:
            return True
        self.seen.add((stream, kind, meta["block"]))
        self.make()
        if stream == "X":
            for line in content.splitlines(keepends=True) if kind == ZSTD else ():
                if is_attempt(line):
                    self.audit.write(line)
                    self.lines += 1
            return True
        if stream in "AVP":
            return kind != ZSTD or self.piece(stream, meta, content)
        if kind == ZSTD:
            for stamp, frame in entries(content):
                boot = stamp - meta.get("stamp_offset_usec", 0)
                self.tlog.write(struct.pack(">Q", boot % (1 << 64)) + frame)
                self.frames += 1
            return True
        runs, file = (noise_runs, self.noise) if kind == NOISE else (sent_runs, self.sent)
        try:
            for run in runs(content):
                file.write(run)
        except Damaged:
            pass
        return True

    def piece(self, stream, meta, content):
        file = meta.get("file")
        if not isinstance(file, dict):
            return False
        number, source, offset = file.get("id"), file.get("source"), file.get("offset", 0)
        if (type(number) is not int or not 1 <= number < 1 << 53 or not isinstance(source, str)
                or type(offset) is not int or not 0 <= offset < MAX_OFFSET):
            return False
        ending = file.get("format")
        if not isinstance(ending, str) or not re.fullmatch("[a-z0-9]{1,8}", ending):
            ending = "dat"
        if not re.fullmatch("[A-Za-z0-9_-]{1,32}", source):
            source = "x" + source.encode("utf-8", "replace").hex()[:64]
        key = (stream, source, number)
        if key not in self.files:
            name = "%s-%s-%d.%s" % (*key, ending)
            self.files[key] = Pieces(os.path.join(self.folder, "files", name))
        self.files[key].put(offset, content)
        return True

    def make(self):
        if self.tlog is None:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self.tlog = open(os.path.join(self.folder, "telemetry.tlog"), "xb")
            self.noise = open(os.path.join(self.folder, "noise.bin"), "xb")
            self.audit = open(os.path.join(self.folder, "audit.jsonl"), "xb")
            self.sent = open(os.path.join(self.folder, "sent.bin"), "xb")

    def close(self):
        for file in (self.tlog, self.noise, self.audit, self.sent):
            if file:
                file.close()
        if self.files:
            with open(os.path.join(self.folder, "files.txt"), "x", encoding="ascii") as file:
                for key, f in sorted(self.files.items()):
                    ranges = ",".join("%d-%d" % r for r in f.ranges)
                    file.write("%s %s %d %d %s %s\n" % (*key, *f.digest(), ranges))


def parse_meta(content):
    try:
        meta = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(meta, dict) or type(meta.get("block")) is not int:
        return None
    return meta if type(meta.get("stamp_offset_usec", 0)) is int else None
