#!/usr/bin/env python3
"""A second reader of the sealed flight, format v1, written from docs/format/v1.md alone.

    second_reader.py verify DIR [--device-key F] [--head F] [--json]
    second_reader.py open DIR -i IDENTITY [-i IDENTITY] -o OUT [--device-key F] [--head F] [--json]

Needs Python 3.11, python3-cryptography, and for open the stock programs age (1.3 or later, named
by --age, $AGE or PATH) and zstd. It does not share code with Holdfast, so that the two can
check each other. What it leaves out: UTC, events, and what lies behind a bad chunk. Streams that
are sealed to others than the identities given are counted in flight.json, and are no damage.

Exit codes: 0 done, 1 error, 2 usage, 3 cut or damaged, 4 tampered, missing or unsigned, 5 a
record of which no identity opens anything, 6 nothing there.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import stat
import sys
import tempfile

sys.dont_write_bytecode = True  # before the modules beside this one

import sealed  # noqa: E402
from log import (  # noqa: E402
    KEY_FILE, MAX_CHECKPOINT, RECORD, SEGMENT_FILE, Bad, Log, Segment, group_of, is_name,
    number, parse_checkpoint, parse_device_key, read_leaves)

ORDER = ["clean", "open", "cut", "damaged", "unsigned", "missing", "tampered"]
EXIT = {"clean": 0, "open": 0, "cut": 3, "damaged": 3, "unsigned": 4, "missing": 4, "tampered": 4}
README_SHA256 = "7d9553973592bf0de439e1709e4b5bc384a118611d90d3832d717545e614fed2"  # appendix A
PIECE = 1 << 20
DEVICE = re.compile("[0-9a-f]{8}")


class Stop(Exception):
    """An end with one line and an exit code."""

    def __init__(self, code, line):
        super().__init__(line)
        self.code = code


def worst(*states):
    return max((s for s in states if s), key=ORDER.index, default="clean")


def read_file(path, limit):
    """Return the bytes of a regular file, None where it is absent; OSError or Bad otherwise."""
    try:
        with open_regular(path) as f:
            data = f.read(limit + 1)
    except FileNotFoundError:
        return None
    if len(data) > limit:
        raise Bad("longer than it may be")
    return data


def open_regular(path):
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError("not a regular file")
    return os.fdopen(file, "rb")


def hash_file(path, size=None):
    """Return (length, SHA-256) of a file, or of its first size bytes."""
    digest, left = hashlib.sha256(), size
    with open_regular(path) as f:
        length = os.fstat(f.fileno()).st_size
        while left is None or left > 0:
            data = f.read(PIECE if left is None else min(PIECE, left))
            if not data:
                break
            digest.update(data)
            left = None if left is None else left - len(data)
    return length, digest.digest()


def listing(path):
    """Return {name: is a folder} of the regular files and folders in path."""
    with os.scandir(path) as entries:
        return {e.name: e.is_dir(follow_symlinks=False) for e in entries
                if e.is_dir(follow_symlinks=False) or e.is_file(follow_symlinks=False)}


class Device:
    """One device's folder: its log, and its files held against it."""

    def __init__(self, path, device, pinned, head):
        self.path, self.device, self.pinned, self.head = path, device, pinned, head
        self.in_use = in_use(os.path.join(path, "LOG"))
        self.states = {}    # record: state
        self.segments = {}  # record: {segment: {"state", "file", "limit"}}
        self.read_log()
        self.folders = {n for n, folder in listing(path).items() if folder and is_name(RECORD, n)}
        self.check_readme()
        for record in sorted(self.folders | set(self.log.records), key=lambda n: (number(n), n)):
            self.check_record(record)

    def find(self, *finding, **place):
        self.log.find(*finding, **place)
        return finding[2] if len(finding) > 2 else "tampered"

    def state(self):
        return worst(*self.states.values(), *(f["state"] for f in self.log.findings))

    # --- the log

    def read_slot(self, name):
        try:
            data = read_file(os.path.join(self.path, "LOG", name), MAX_CHECKPOINT)
            return data, parse_checkpoint(data) if data is not None else None
        except (Bad, OSError):
            return b"", None

    def device_key(self):
        """Return the device's key and the findings about it (rule V2)."""
        key = self.pinned[1] if self.pinned else None
        try:
            data = read_file(os.path.join(self.path, "LOG", "device.pub"), 4096)
            if data is None:
                return key, [("V2", "device.pub is not there", "missing")]
            device, own = text_key(data)
        except OSError:
            return key, [("V2", "device.pub cannot be read", "damaged")]
        except Bad as e:
            return key, [("V2", "device.pub: %s" % e)]
        if device != self.device:
            return key, [("V2", "device.pub is of another device")]
        if key and key != own:
            return key, [("V2", "device.pub is not the pinned key")]
        return own, []

    def read_log(self):
        slots = {n: self.read_slot(n) for n in ("cp.A", "cp.B")}
        formed = [(n, cp) for n, (_, cp) in slots.items() if cp]
        wanted = [cp["size"] for _, cp in formed] + ([self.head["size"]] if self.head else [])
        key, findings = self.device_key()
        self.log = log = Log(self.device, key, wanted)
        for f in findings:
            log.find(*f, file="LOG/device.pub")
        length = self.walk()
        self.right = [cp for n, cp in formed if log.check_slot(cp, "LOG/" + n)]
        if self.head and log.check_head(self.head):
            self.right.append(self.head)
        self.newest = max(self.right, key=age_of, default=None)
        self.check_slots(slots, formed)
        self.check_length(length, max((cp for _, cp in formed), key=age_of, default=None))
        self.sound = all(f["state"] == "cut" for f in log.findings if f["rule"] != "V16")

    def walk(self):
        """Read log.bin; return its length, or None where it cannot be read."""
        try:
            with open_regular(os.path.join(self.path, "LOG", "log.bin")) as f:
                try:
                    for leaf in read_leaves(f):
                        self.log.add(*leaf)
                except Bad as e:
                    self.log.breach("V12", "a leaf that is not canonical: %s" % e)
                return os.fstat(f.fileno()).st_size
        except FileNotFoundError:
            return 0
        except OSError:
            self.log.breach("V12", "log.bin cannot be read", "damaged")
            return None

    def check_slots(self, slots, formed):
        absent = [n for n, (data, _) in slots.items() if data is None]
        if len(formed) == 2 or self.log.plain and len(formed) + len(absent) == 2:
            return
        state = "cut" if formed or self.log.plain and absent else "tampered"
        for name, (_, cp) in slots.items():
            if cp is None:
                self.find("V11", "no well-formed checkpoint", state, file="LOG/" + name)

    def check_length(self, length, newest):
        log = self.log
        records = any(is_name(RECORD, n) for n in listing(self.path))
        if log.tree.size == 0 and (newest or records):
            log.breach("V1", "there is no leaf", "missing")
        if newest and (newest["size"] > log.tree.size or newest["log"] > log.bytes):
            short = length is not None and length < newest["log"]
            log.breach("V12", "%d leaves missing against the newest checkpoint"
                       % (newest["size"] - log.tree.size), "missing" if short else "tampered")
        elif length is not None and length > log.bytes and not self.in_use:
            log.breach("V12", "%d bytes that are no leaf" % (length - log.bytes), "cut")

    def check_readme(self):
        if self.log.tree.size or self.folders:
            self.compare("V14", "README.txt", None, bytes.fromhex(README_SHA256))

    # --- records and segments

    def compare(self, rule, name, size, digest, part=False):
        """Hold a file against what is signed; return the state of it, "" where it is right."""
        path, record = os.path.join(self.path, name), name.partition("/")[0]
        place = {"file": name, **({"record": record} if is_name(RECORD, record) else {})}
        try:
            length, found = hash_file(path, size if part else None)
        except FileNotFoundError:
            return self.find(rule, "%s is not there" % name, "missing", **place)
        except OSError:
            return self.find(rule, "%s cannot be read" % name, "damaged", **place)
        if found != digest or size is not None and (length < size if part else length != size):
            return self.find(rule, "%s differs from what is signed" % name, **place)
        return ""

    def check_record(self, name):
        r = self.log.records.get(name)
        if r is None:
            self.unknown_record(name)
        elif r.undone or self.proven(r.deleted):
            return
        elif name not in self.folders:
            self.states[name] = self.find("V15", "%s is not there" % name, "missing",
                                          file=name, record=name)
        else:
            self.known_record(r)

    def proven(self, leaf):
        return leaf is not None and leaf < self.log.proven

    def unknown_record(self, name):
        files = self.sizes(name)
        begun = all(f.endswith(".open.age") and size < 65536 for f, size in files.items())
        if self.sound and number(name) == self.log.next and begun:
            self.states[name] = "open" if self.in_use else "cut"
            return
        self.states[name] = self.find("V15", "%s is not in the log" % name, "unsigned",
                                      file=name, record=name)
        self.segments[name] = {f[:7]: {"state": "unsigned", "file": f, "limit": None}
                               for f in files}

    def sizes(self, record):
        """Return {name: size} of the segment files of a record."""
        path = os.path.join(self.path, record)
        return {n: os.stat(os.path.join(path, n), follow_symlinks=False).st_size
                for n, folder in listing(path).items() if not folder and is_name(SEGMENT_FILE, n)}

    def known_record(self, r):
        files, log = self.sizes(r.name), self.log
        ended = self.proven(r.ended)
        if ended:
            own = "cut" if r.recovered else "clean"
        elif not self.sound and r.leaf >= log.proven:
            own = "unsigned"
        else:
            own = "open" if self.in_use and r.ended is None else "cut"
        states = [own, self.check_keys(r)]
        self.segments[r.name] = {}
        for f in r.files:  # R names a segment also where its O was lost
            r.segments.setdefault(f[:7], Segment(r.ended))
        for segment, s in sorted(r.segments.items(), key=lambda i: ("TVPAX".index(i[0][0]), i[0])):
            if s.begun is None or self.proven(s.gone):
                continue
            self.segments[r.name][segment] = self.check_segment(r, segment, s, files, ended)
        states += [self.strange_file(r, f, files, ended) for f in sorted(files)]
        states += [s["state"] for s in self.segments[r.name].values()]
        self.states[r.name] = worst(*states)

    def check_keys(self, r):
        states, named = [], set()
        for group, keys in r.keys.items():
            for name, data in keys.items():
                named.add(name)
                digest = hashlib.sha256(data).digest()
                states.append(self.compare("V14", r.name + "/" + name, len(data), digest))
            pub = "flight.%s.pub" % group if group else "flight.pub"
            named.add(pub)
            states.append(self.check_pub(r, pub, r.pubs[group].encode() + b"\n"))
        for name in listing(os.path.join(self.path, r.name)):
            if group_of(name) is not None and name not in named:
                states.append(self.find("V14", "%s is not in leaf K" % name,
                                        file=r.name + "/" + name, record=r.name))
        return worst(*states)

    def check_pub(self, r, pub, line):
        name = r.name + "/" + pub
        try:
            have = read_file(os.path.join(self.path, name), 4096) or b""
        except (OSError, Bad):
            have = None
        whole = r.ended is not None and not r.recovered
        if whole or have is None or not line.startswith(have.rstrip(b"\0")):
            return self.compare("V14", name, len(line), hashlib.sha256(line).digest())
        return ""

    def check_segment(self, r, segment, s, files, ended):
        """Judge one segment by what names it; the file to read, and how much of it, come with it.

        C and R take the place of what a checkpoint says of the open form only where they are
        proven: anybody could have added them to the tail.
        """
        found = {"file": segment + ".open.age", "limit": None}
        named = {f: n for f, n in r.files.items() if f[:7] == segment}
        states = [self.compare("V13", r.name + "/" + f, *n) for f, n in named.items()]
        states += [self.compare("V13", r.name + "/" + f, *n, part=True)
                   for f, n in r.signed.items() if f[:7] == segment]
        covered = False
        if s.closed:
            states.append(self.compare("V13", r.name + "/" + segment + ".age", *s.closed[1:]))
        if s.closed and self.proven(s.closed[0]):
            return {"file": segment + ".age", "limit": None, "state": worst(*states)}
        if named and self.proven(r.ended):
            found["file"], covered = min(named, key=len), True
        else:
            covered = self.check_open(r, segment, s, files, found, states, ended)
        if not any(states):
            running = self.sound and not ended
            states.append("unsigned" if not (covered or running) else
                          "open" if self.in_use and r.ended is None else "cut")
        return {**found, "state": worst(*states)}

    def check_open(self, r, segment, s, files, found, states, ended):
        """Judge a segment whose closed form nothing names; tell whether a signature covers it."""
        form, covered = found["file"], False
        lines = self.newest["open"] if self.newest else []
        line = [o for o in lines if (o["record"], o["file"]) == (r.name, form)]
        parts = [(o["bytes"], o["sha256"]) for o in line]
        if s.failed:
            parts.append(s.failed[1:])
            covered = self.proven(s.failed[0])
            if ended:
                found["limit"] = s.failed[1]
        states += [self.compare("V13", r.name + "/" + form, *p, part=True) for p in parts]
        if not parts and form not in files:
            if segment + ".age" in files:
                found["file"] = segment + ".age"
            else:
                states.append(self.find("V13", "%s/%s is not there" % (r.name, segment), "missing",
                                        file=r.name + "/" + form, record=r.name))
        return covered or bool(line)

    def extra_close(self, r, file, files, ended):
        """Tell a closed form that nothing names beside an open one, in a record that has ended."""
        s, form = r.segments[file[:7]], file[:7] + ".open.age"
        return (ended and file != form and file not in r.files and not s.closed
                and s.gone is None and (form in files or form in r.files))

    def strange_file(self, r, file, files, ended):
        """Judge a segment file that the log does not name."""
        segment = file[:7]
        if segment in r.segments and not self.extra_close(r, file, files, ended):
            return ""
        highest = max((int(s[1:]) for s in r.segments if s[0] == segment[0]), default=0)
        if self.sound and not ended and int(segment[1:]) > highest and ".open" in file:
            state = "open" if self.in_use else "cut"
        else:
            state = self.find("V15", "%s/%s is not in the log" % (r.name, file), "unsigned",
                              file=r.name + "/" + file, record=r.name)
        self.segments[r.name].setdefault(segment, {"file": file, "limit": None, "state": state})
        return state

    def report(self):
        log = self.log
        records = [{"record": n, "state": s, "segments": [
            {"name": f["file"], "state": f["state"]} for f in self.segments.get(n, {}).values()]}
            for n, s in self.states.items()]
        return {"device": self.device, "pinned": bool(self.pinned), "state": self.state(),
                "boots": log.boot, "leaves": log.tree.size, "proven": log.proven,
                "unsigned_tail": log.tree.size - log.proven, "findings": log.findings,
                "records": records,
                "deleted": [n for n, r in log.records.items() if r.deleted is not None]}


def age_of(cp):
    return cp["size"], cp["boot"], cp["t"]


def in_use(folder):
    """Tell whether a recorder holds the lock of the vault."""
    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def find_devices(path):
    """Return [(folder, device8)] of a vault or of one device's folder."""
    try:
        names = listing(path)
    except OSError as e:
        raise Stop(1, "%s: %s" % (path, e.strerror)) from e
    own = os.path.basename(os.path.abspath(path))
    if names.get("LOG"):
        if is_name(DEVICE, own):
            return [(path, own)]
        try:
            data = read_file(os.path.join(path, "LOG", "device.pub"), 4096) or b""
            return [(path, text_key(data)[0])]
        except (Bad, OSError) as e:
            raise Stop(1, "%s: neither its name nor device.pub names a device" % path) from e
    found = [(os.path.join(path, n), n) for n in sorted(names) if names[n] and is_name(DEVICE, n)]
    if not found:
        raise Stop(1, "%s is not a vault" % path)
    return found


def argument(path, limit, parse):
    """Read a file that was given by its name; None where none was."""
    if not path:
        return None
    try:
        return parse(read_file(path, limit) or b"")
    except Bad as e:
        raise Stop(1, "%s: %s" % (path, e)) from e


def text_key(data):
    return parse_device_key(data.decode("ascii", "replace"))


def verify(options):
    pinned = argument(options.device_key, 4096, text_key)
    head = argument(options.head, MAX_CHECKPOINT, parse_checkpoint)
    folders, devices = find_devices(options.dir), []
    alone = len(folders) == 1
    names = [device for _, device in folders]
    if head and head["device"] not in names or pinned and not alone and pinned[0] not in names:
        raise Stop(1, "%s: the head or the key is of a device that is not there" % options.dir)
    for path, device in folders:
        devices.append(Device(path, device,
                              pinned if pinned and (alone or pinned[0] == device) else None,
                              head if head and head["device"] == device else None))
    return devices


def sealed_keys(device, record):
    """Return {group: wrapped copies of its key}: leaf K's where the log has them."""
    r = device.log.records.get(record)
    if r is not None:
        return {group: list(keys.values()) for group, keys in r.keys.items()}
    folder, found = os.path.join(device.path, record), {"": []}
    for name in sorted(listing(folder), key=lambda n: (len(n), n)):
        if group_of(name) is not None:
            copies = found.setdefault(group_of(name), [])
            if is_name(KEY_FILE, name):
                copies.append(os.path.join(folder, name))
    return found


def unlock(keys, copies):
    """Return the secret line that one of the copies, bytes or paths, opens to."""
    problem = sealed.Damaged("the record holds no flight key")
    for data in copies:
        try:
            if isinstance(data, str):
                data = read_file(data, sealed.MAX_KEY_FILE)
            return keys.unlock(data)
        except Bad as e:
            problem = sealed.Damaged(str(e))
        except (sealed.NoIdentity, sealed.Damaged) as e:
            problem = e
    raise problem


def unlock_groups(device, record, keys):
    """Return {group: path of an identity, or why there is none}; raise where none opens."""
    found = {}
    for group, copies in sealed_keys(device, record).items():
        try:
            found[group] = keys.age.identity(unlock(keys, copies))
        except (sealed.NoIdentity, sealed.Damaged) as e:
            found[group] = e
    problems = [e for e in found.values() if isinstance(e, Exception)]
    if len(problems) == len(found):
        raise next((e for e in problems if isinstance(e, sealed.Damaged)), problems[0])
    return found


def group_for(found, stream):
    """Return the group that a stream is in: the first by name that has its letter."""
    return next((g for g in sorted(found) if stream in g), "")


def closed_to_us(device, record, found):
    """Return ([what is sealed to others], whether the key of anything is damaged)."""
    rows, damaged = {}, False
    for name, s in device.segments.get(record, {}).items():
        group = group_for(found, name[0])
        path = os.path.join(device.path, record, s["file"])
        if not isinstance(found[group], Exception) or not os.path.isfile(path):
            continue
        if isinstance(found[group], sealed.Damaged):
            damaged = True
            continue
        row = rows.setdefault(group, {"streams": "", "segments": 0, "bytes": 0})
        row["streams"] += name[0] if name[0] not in row["streams"] else ""
        row["segments"] += 1
        row["bytes"] += os.path.getsize(path)
    return list(rows.values()), damaged


def read_form(age, identity, path, limit, out):
    """Take the blocks of one file of a segment. age writes what it could of a cut one."""
    with tempfile.TemporaryFile(dir=age.folder) as part, open_regular(path) as file:
        source = file
        if limit is not None:
            source = part
            while limit > 0 and (data := file.read(min(PIECE, limit))):
                part.write(data)
                limit -= len(data)
            part.seek(0)
        with age.start(source, identity) as p:
            good = out.write(sealed.Input(p.stdout), os.path.basename(path)[0])
            p.stdout.read()
        return good


def open_record(device, record, keys, options):
    """Write what is in a record; return its row."""
    row = {"device": device.device, "record": record, "state": device.states[record], "frames": 0}
    segments = device.segments.get(record, {})
    if not segments or device.states[record] == "missing" and record not in device.folders:
        return row
    try:
        found = unlock_groups(device, record, keys)
    except sealed.NoIdentity:
        return {**row, "error": "no identity fits"}
    except sealed.Damaged as e:
        return {**row, "error": str(e), "state": worst(row["state"], "damaged")}
    others, damaged = closed_to_us(device, record, found)
    row["state"] = worst(row["state"], "damaged" if damaged else "")
    folder = os.path.join(options.out, device.device, record)
    proven, apart = sealed.Output(folder), sealed.Output(os.path.join(folder, "unverified"))
    for s in segments.values():
        identity = found[group_for(found, s["file"][0])]
        if s["state"] == "missing" or isinstance(identity, Exception):
            continue
        out = apart if s["state"] in ("tampered", "unsigned") else proven
        path = os.path.join(device.path, record, s["file"])
        if not read_form(keys.age, identity, path, s["limit"], out):
            row["state"] = worst(row["state"], "damaged")
    proven.make()
    for out in (proven, apart):
        out.close()
    row.update(frames=proven.frames, unverified_frames=apart.frames, attempt_lines=proven.lines,
               sealed_to_others=others)
    with open(os.path.join(folder, "flight.json"), "x", encoding="ascii") as f:
        json.dump({**row, "signed": True, "segments": device.report()["records"]}, f, indent=2)
    return row


def open_all(options, devices):
    if os.path.isdir(options.out) and os.listdir(options.out):
        raise Stop(1, "%s is not empty" % options.out)
    os.makedirs(options.out, mode=0o700, exist_ok=True)
    age = sealed.Age(options.age)
    try:
        keys = sealed.Keys(options.identity, age)
        rows = [open_record(d, n, keys, options) for d in devices for n in d.states]
    finally:
        age.close()
    state = worst(*(d.state() for d in devices), *(r["state"] for r in rows))
    locked = any(r.get("error") == "no identity fits" for r in rows)
    code = 5 if locked and EXIT[state] != 4 else EXIT[state]
    return {"state": state, "records": rows}, code


def show(result, as_json):
    if as_json:
        print(json.dumps(result))
        return
    print("state:", result["state"])
    for device in result.get("devices", []):
        if not device["pinned"]:
            print(device["device"] + ": self-consistent, device unknown")
        for f in device["findings"]:
            print("%s %s %s: %s" % (f["rule"], f["state"], f["file"], f["what"]))
    rows = [r for d in result.get("devices", []) for r in d["records"]]
    for r in result.get("records", []) + rows:
        print(r["record"], r["state"], r.get("error", ""))


def run(arguments):
    parser = argparse.ArgumentParser(prog="second_reader.py")
    parser.add_argument("command", choices=["verify", "open"])
    parser.add_argument("dir")
    parser.add_argument("--device-key")
    parser.add_argument("--head")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-i", "--identity", action="append", default=[])
    parser.add_argument("-o", "--out")
    parser.add_argument("--age")
    options = parser.parse_args(arguments)
    if options.command == "open" and not (options.identity and options.out):
        parser.error("open needs -i and -o")
    devices = verify(options)
    if options.command == "open":
        result, code = open_all(options, devices)
    else:
        state = worst(*(d.state() for d in devices))
        result, code = {"state": state, "devices": [d.report() for d in devices]}, EXIT[state]
    if code == 0 and not any(d.states for d in devices):
        code = 6
    show(result, options.json)
    return code


def main():
    try:
        return run(sys.argv[1:])
    except Stop as e:
        print("second_reader: %s" % e, file=sys.stderr)
        return e.code
    except KeyboardInterrupt:
        return 130
    except Exception as e:  # whatever the input: one line
        line = "second_reader: %s: %s" % (type(e).__name__, e)
        print(line.replace("\n", " "), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
