#!/usr/bin/python3
"""Checks a bundle with Python's cryptography and hashlib: an independent reading of RFC 6962 and of docs/formats.md.

usage: verify.py BUNDLE_DIR VKEY_FILE [OLD_CHECKPOINT_FILE]
       verify.py --proof PROOF_FILE BUNDLE_DIR VKEY_FILE
"""

import base64
import hashlib
import json
import os
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Fault(Exception):
    """What is wrong with the bundle."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root_of(hashes):
    """RFC 6962 section 2.1, over leaf hashes."""
    if not hashes:
        return sha256()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01", root_of(hashes[:split]), root_of(hashes[split:]))


def path_to(index, hashes):
    """RFC 6962 section 2.1.1: the audit path of a leaf."""
    if len(hashes) == 1:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if index < split:
        return path_to(index, hashes[:split]) + [root_of(hashes[split:])]
    return path_to(index - split, hashes[split:]) + [root_of(hashes[:split])]


def climb(leaf, index, size, path):
    """The root that a leaf and its audit path lead to (RFC 9162 section 2.1.3.2)."""
    at, last, node = index, size - 1, leaf
    for step in path:
        if last == 0:
            raise Fault("a proof that is too long")
        if at & 1 or at == last:
            node = sha256(b"\x01", step, node)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            node = sha256(b"\x01", node, step)
        at, last = at >> 1, last >> 1
    if last:
        raise Fault("a proof that is too short")
    return node


def lp(*fields):
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


class Key:
    def __init__(self, line):
        self.name, self.id, body = line.strip().split("+", 2)
        raw = base64.b64decode(body, validate=True)
        if len(raw) != 33 or raw[0] != 1:
            raise Fault("vkey: not an Ed25519 key")
        if sha256(self.name.encode(), b"\n", raw)[:4].hex() != self.id:
            raise Fault("vkey: its id is not its own")
        self.key = Ed25519PublicKey.from_public_bytes(raw[1:])

    def open(self, note):
        """Origin, size and root of a checkpoint that this key signed."""
        text, _, signatures = note.rpartition("\n\n")
        text += "\n"
        signed = False
        for line in signatures.splitlines():
            dash, name, body = line.split(" ")
            raw = base64.b64decode(body, validate=True)
            if dash == "\u2014" and name == self.name and raw[:4].hex() == self.id:
                self.key.verify(raw[4:], text.encode())
                signed = True
        lines = text.split("\n")
        if not signed or len(lines) != 4 or lines[0] != self.name:
            raise Fault("checkpoint: not one of the trusted key")
        return int(lines[1]), base64.b64decode(lines[2], validate=True)


def tile_path(level, index, width):
    digits = str(index)
    digits = digits.zfill((len(digits) + 2) // 3 * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join(["x" + part for part in parts[:-1]] + parts[-1:])
    return f"tile/{level}/{name}" + ("" if width == 256 else f".p/{width}")


class Bundle:
    def __init__(self, folder, key):
        self.folder = folder
        self.size, self.root = key.open(self.read("checkpoint").decode())
        self.start, self.end = 0, self.size
        if os.path.exists(os.path.join(folder, "range")):
            self.start, self.end = map(int, self.read("range").decode().split(" "))
            if self.start % 256 or self.end > self.size or (self.end % 256 and self.end != self.size):
                raise Fault("range: not one of this log")

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def tiles(self, level, count):
        """All hashes of a level of tiles."""
        hashes = []
        for index in range((count + 255) // 256):
            width = min(256, count - index * 256)
            name = tile_path(level, index, width)
            tile = self.read(name)
            if len(tile) != width * 32:
                raise Fault(f"{name}: {len(tile)} bytes")
            hashes += [tile[at : at + 32] for at in range(0, len(tile), 32)]
        return hashes

    def entries(self):
        """Index and bytes of every entry in the bundle."""
        for bundle in range(self.start // 256, (self.end + 255) // 256):
            width = min(256, self.size - bundle * 256)
            name = tile_path("entries", bundle, width)
            data, at, count = self.read(name), 0, 0
            while at < len(data):
                (length,) = struct.unpack_from(">H", data, at)
                if at + 2 + length > len(data):
                    raise Fault(f"{name}: breaks off")
                yield bundle * 256 + count, data[at + 2 : at + 2 + length]
                at, count = at + 2 + length, count + 1
            if count != width:
                raise Fault(f"{name}: {count} entries, {width} expected")

    def verify(self):
        leaves = self.tiles(0, self.size)
        if root_of(leaves) != self.root:
            raise Fault("the root over all hashes is not the signed one")
        level, below = 0, leaves
        while len(below) >= 256:
            level += 1
            above = [root_of(below[at : at + 256]) for at in range(0, len(below) // 256 * 256, 256)]
            if self.tiles(level, len(above)) != above:
                raise Fault(f"tile/{level}: does not fit the level below")
            below = above
        commitments, positions, personal = {}, {}, 0
        for index, leaf in self.entries():
            if sha256(b"\x00", leaf) != leaves[index]:
                raise Fault(f"entry {index} was altered")
            if index % 97 == 0 and climb(leaves[index], index, self.size, path_to(index, leaves)) != self.root:
                raise Fault(f"entry {index}: its proof does not lead to the root")
            if leaf[:1] != b"\x01":
                raise Fault(f"entry {index}: version")
            entry = json.loads(leaf[1:].decode("ascii"))
            place = entry["position"]
            lane = place["boot"], place["lane"]
            expected = positions.get(lane, place["number"] if self.start else 0)
            if place["number"] != expected:
                raise Fault(f"entry {index}: number {place['number']} in its lane, {expected} expected")
            positions[lane] = expected + 1
            personal += entry["actor"]["kind"] != "node"  # the vault's own entries keep no openings
            commitments[index] = {
                "onBehalfOf": entry["onBehalfOf"],
                "origin.address": entry["origin"]["address"],
                "actor.name": entry["actor"]["name"],
                "reference": entry["reference"],
            }
        opened = self.openings(commitments)
        self.manifest()
        return len(commitments), opened, personal * 4 - opened

    def openings(self, commitments):
        count = 0
        for line in self.read("openings.jsonl").decode().splitlines():
            opening = json.loads(line)
            fields = [b"siv/v1/commit", unpadded(opening["salt"]), opening["name"].encode()]
            if opening["value"] is not None:
                fields.append(opening["value"].encode())
            if commitments[opening["index"]][opening["name"]] != encoded(sha256(lp(*fields))):
                raise Fault(f"entry {opening['index']}: {opening['name']} is not what was committed to")
            count += 1
        return count

    def manifest(self):
        listed = {}
        for line in self.read("MANIFEST").decode().splitlines():
            digest, name = line.split("  ", 1)
            listed[name] = digest
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), self.folder)
                if path != "MANIFEST" and sha256(self.read(path)).hex() != listed.pop(path, None):
                    raise Fault(f"{path}: not as MANIFEST says")
        if listed:
            raise Fault(f"{sorted(listed)[0]}: missing")


def prove(proof, folder, vkey):
    """Checks a tlog-proof about an entry whose bytes stand in a bundle."""
    key = trusted(vkey)
    with open(proof, encoding="utf-8") as file:
        head, _, note = file.read().partition("\n\n")
    header, index, *path = head.split("\n")
    if header != "c2sp.org/tlog-proof@v1" or not index.startswith("index "):
        raise Fault("proof: not a tlog-proof")
    index = int(index.removeprefix("index "))
    size, root = key.open(note)
    if not 0 <= index < size:
        raise Fault("proof: its entry lies outside its checkpoint")
    leaf = dict(Bundle(folder, key).entries())[index]
    path = [base64.b64decode(line, validate=True) for line in path]
    if climb(sha256(b"\x00", leaf), index, size, path) != root:
        raise Fault(f"proof: entry {index} is not under the signed root")
    print(f"{key.name}: entry {index} is one of {size}")


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def trusted(vkey):
    with open(vkey, encoding="utf-8") as file:
        return Key(next(line for line in file if line.strip() and not line.startswith("#")))


def main(folder, vkey, old=None):
    key = trusted(vkey)
    bundle = Bundle(folder, key)
    entries, opened, erased = bundle.verify()
    if old is not None:
        with open(old, encoding="utf-8") as file:
            size, root = key.open(file.read())
        if size > bundle.size or root_of(bundle.tiles(0, bundle.size)[:size]) != root:
            raise Fault("the log does not continue the older checkpoint")
    print(f"{key.name}: {entries} entries of {bundle.size}, {opened} openings hold, {erased} erased")


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--proof"]:
            prove(*sys.argv[2:])
        else:
            main(*sys.argv[1:])
    except (Fault, InvalidSignature, OSError, ValueError, KeyError, TypeError, struct.error) as fault:
        sys.exit(f"{type(fault).__name__}: {fault}")
