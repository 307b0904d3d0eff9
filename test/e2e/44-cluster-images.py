#!/usr/bin/env python3
# timeout: 180 s
"""Goal: an image that one node shares arrives at others whole or not at all, whatever a disk or a peer
does to it, only what is missing is moved, and /metrics says exactly what happened.
Method: three nodes with an agent beside each; a client shares images, has them fetched, and reads
them back chunk by chunk, with SHA-256 by Python. Beside it the test keeps its own account of every
chunk. Files are damaged under a node, and a peer of the test's own tells lies in every field."""

import collections
import concurrent.futures
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../cluster"))
from testbed import Checks, free_ports, load_stubs, wait_for  # noqa: E402

try:
    import grpc
except ImportError as missing:
    print(f"{missing.name} is not installed")
    sys.exit(77)

BUILD = os.environ.get("B", "build")
NODE, AGENT = os.path.join(BUILD, "blixard-node"), os.path.join(BUILD, "blixard-agent")
MIB, CHUNK, CACHE = 1 << 20, 256 << 10, 16 << 20

check = Checks()
pb = stubs = None
dice = random.Random(3)


def sha(data):
    return hashlib.sha256(data).digest()


def chunks_of(data):
    return [data[i:i + CHUNK] for i in range(0, len(data), CHUNK)]


def digests_of(data):
    return [sha(chunk) for chunk in chunks_of(data)]


class Node:
    """A node, its agent, a client of it, and what should be in its cache and its counters."""

    def __init__(self, directory, shm, number, ports, more=()):
        self.number, self.port, self.agent_port = number, ports[number - 1], ports[number + 2]
        self.address = f"127.0.0.1:{self.port}"
        self.data = os.path.join(directory, f"data{number}")
        self.shm, self.log = os.path.join(shm, f"blix{number}"), os.path.join(directory, f"node{number}.log")
        self.command = [NODE, "--id", str(number), "--bind", self.address, "--shm", self.shm, "--data", self.data,
                        "--image-cache", str(CACHE), *more]
        if number > 1:
            self.command += ["--join", f"127.0.0.1:{ports[0]}"]
        state = os.path.join(directory, f"agent{number}")
        os.mkdir(state)
        self.start()
        with open(self.log, "a") as log:
            self.agent = subprocess.Popen([AGENT, "--shm", self.shm, "--listen", f"127.0.0.1:{self.agent_port}"],
                                          stderr=log, env=dict(os.environ, STATE_DIRECTORY=state))
        self.channel = grpc.insecure_channel(self.address, options=[
            ("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)])
        self.stub = stubs.ClusterStub(self.channel)
        self.cache, self.truth = set(), collections.Counter()

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, stderr=log)

    def metrics(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.agent_port}/metrics?names=canonical", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        return {k: float(v) for k, _, v in (line.rpartition(" ") for line in lines if line and line[0] != "#")}

    def end(self):
        self.channel.close()
        for process in (self.agent, self.process):
            if process.poll() is None:
                process.kill()
                process.wait()

    def words(self):
        with open(self.log) as log:
            return log.read()

    def ask(self, method, **fields):
        """(code, reply or what the server says)."""
        try:
            return "OK", getattr(self.stub, method)(getattr(pb, method + "Request")(**fields), timeout=20)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    # ---- what is done, and accounted for -----------------------------------------------------------
    def looked_for(self, digest):
        self.truth["cache_hits_total" if digest in self.cache else "cache_misses_total"] += 1
        return digest in self.cache

    def share(self, name, data, **how):
        code, reply = self.ask("ShareVmImage", name=name, **(how or {"data": data}))
        for digest in digests_of(data):
            self.looked_for(digest)
            self.cache.add(digest)
        wanted = pb.VmImage(name=name, size=len(data), digest=sha(data), chunks=b"".join(digests_of(data)), complete=True)
        return code == "OK" and reply.image == wanted

    def fetch(self, name, data, peer):
        """Have it fetched from a good peer: (as it should be, moved, spared)."""
        wanted = list(dict.fromkeys(digests_of(data)))
        missing = [d for d in wanted if not self.looked_for(d)]
        spared = len(digests_of(data)) - len(missing)
        code, reply = self.ask("GetVmImage", name=name, digest=sha(data), peer=peer.address)
        sizes = {sha(c): len(c) for c in chunks_of(data)}
        moved_bytes = sum(sizes[d] for d in missing)
        self.count("receive", moved_bytes)
        self.truth["chunks_transferred_total"] += len(missing)
        self.truth["chunks_deduplicated_total"] += spared
        self.truth["verifications_total"] += 1
        self.cache.update(missing)
        peer.count("send", moved_bytes)
        peer.truth["cache_hits_total"] += len(missing)
        good = code == "OK" and reply.image.digest == sha(data) and (reply.chunks_moved, reply.chunks_spared) == (len(missing), spared)
        return good, len(missing), spared

    def count(self, direction, n_bytes=0, transfers=1, failures=0):
        self.truth[f'transfers_total{{direction="{direction}"}}'] += transfers
        self.truth[f'transfers_failed_total{{direction="{direction}"}}'] += failures
        self.truth[f'transferred_bytes_total{{direction="{direction}"}}'] += n_bytes
        self.truth[f'transfer_duration_seconds_count{{direction="{direction}"}}'] += transfers

    def read(self, name):
        """The bytes of an image as the node has them, or None."""
        code, reply = self.ask("GetVmImage", name=name)
        if code != "OK":
            return None
        parts = []
        for i in range(0, len(reply.image.chunks), 32):
            code, part = self.ask("GetVmImage", name=name, chunk=reply.image.chunks[i:i + 32])
            self.truth["cache_hits_total"] += 1
            parts.append(part.data if code == "OK" else b"")
        return b"".join(parts)

    # ---- what the node says of it, and has ----------------------------------------------------------
    def difference(self):
        found = self.metrics()
        names = {k for k in found if k.startswith("blixard_p2p_") and "_bucket" not in k and "_sum" not in k}
        names |= {"blixard_p2p_" + k for k in self.truth}
        return {k: f"test {self.truth[k[12:]]}, node {found.get(k)}" for k in names if self.truth[k[12:]] != found.get(k, 0)}

    def files(self, folder="chunks"):
        return sorted(os.listdir(os.path.join(self.data, folder)))

    def bad_files(self):
        """Chunks that are not what they are called."""
        wrong = []
        for name in self.files():
            with open(os.path.join(self.data, "chunks", name), "rb") as f:
                if sha(f.read()).hex() != name:
                    wrong.append(name)
        return wrong

    def images(self):
        code, reply = self.ask("ListP2pImages")
        return {i.name: i.complete for i in reply.images} if code == "OK" else {"error": reply}

    def status(self):
        return self.ask("GetP2pStatus")[1]


def agree(nodes, name):
    for n in nodes:
        if not wait_for(lambda: not n.difference(), 5):
            check(False, f"node {n.number}: {name}", n.difference())
            return
    check(True, name)


def random_bytes(n):
    return dice.randbytes(n)


# ---- the cases -------------------------------------------------------------------------------------
def test_transfer(a, b, c):
    base = random_bytes(8 * CHUNK + 12345)
    check(a.share("base", base), "node 1 shares an image, whose digests are Python's")
    for n in (b, c):
        good = n.fetch("base", base, a)
        check(good == (True, 9, 0), f"node {n.number} fetches it, in nine chunks", good)
        read = n.read("base")
        check(read == base, f"node {n.number} has the same bytes", read and len(read))
    check(b.ask("GetVmImage", name="base", peer=a.address)[1].chunks_moved == 0, "what is there is not fetched again")
    variant = base[:5 * CHUNK] + bytes(3 * CHUNK) + random_bytes(777)
    check(a.share("variant", variant), "node 1 shares a second image, with five chunks of the first and three alike")
    good = b.fetch("variant", variant, a)
    check(good == (True, 2, 7), "of it two chunks are moved, and seven spared", good)
    check(b.read("variant") == variant, "and it is whole")
    good = c.fetch("variant", variant, b)
    check(good == (True, 2, 7) and c.read("variant") == variant, "who has fetched an image can pass it on", good)
    one = b"x"
    check(a.share("one", one) and b.fetch("one", one, a)[0] and b.read("one") == one, "an image of one byte")
    agree([a, b, c], "the counters are what the test has counted, on both sides")


def test_files(a, b):
    big = random_bytes(5 * MIB + 1)
    folder = os.path.join(a.data, "images-to-share")
    with open(os.path.join(folder, "big.img"), "wb") as f:
        f.write(big)
    check(a.share("big", big, file="big.img"), "a file larger than a message is shared by its name")
    good = b.fetch("big", big, a)
    check(good == (True, 21, 0) and b.read("big") == big, "and fetched", good)
    os.symlink("/etc/hostname", os.path.join(folder, "link"))
    os.mkfifo(os.path.join(folder, "pipe"))
    os.mkdir(os.path.join(folder, "folder"))
    open(os.path.join(folder, "empty"), "w").close()
    with open(os.path.join(folder, "huge"), "w") as f:
        f.truncate(2 << 30)
    with open(os.path.join(folder, "large"), "w") as f:
        f.truncate(CACHE + 1)
    wanted = {"link": "INVALID_ARGUMENT", "pipe": "INVALID_ARGUMENT", "folder": "INVALID_ARGUMENT", "empty": "INVALID_ARGUMENT",
              "huge": "RESOURCE_EXHAUSTED", "large": "RESOURCE_EXHAUSTED", "missing": "NOT_FOUND", "../id": "INVALID_ARGUMENT",
              "/etc/hostname": "INVALID_ARGUMENT", ".hidden": "INVALID_ARGUMENT", "x" * 64: "INVALID_ARGUMENT"}
    codes = {file: a.ask("ShareVmImage", name="strange", file=file)[0] for file in wanted}
    check(codes == wanted, "no other file of the machine can be shared", codes)
    check("strange" not in a.images(), "and none of them is an image")


def test_bad_requests(a):
    names = ("", "../x", "a/b", ".", "..", ".x", "a b", "a\nb", "\u00e4", "x" * 64, "x" * 100000)
    codes = [a.ask("ShareVmImage", name=n, data=b"x")[0] for n in names] + [a.ask("GetVmImage", name=n)[0] for n in names]
    codes += [a.ask("ShareVmImage", name="x")[0], a.ask("ShareVmImage", name="x", data=b"x", file="big.img")[0]]
    good = {"name": "x", "digest": bytes(32)}
    bad = [dict(good, digest=b"short"), dict(good, digest=bytes(33)), dict(good, chunk=b"short"), dict(good, chunk=bytes(5000)),
           dict(good, peer="not an address"), dict(good, peer="x" * 200), dict(good, peer="localhost"), dict(good, end=1),
           dict(good, peer="127.0.0.1:1", transfer=1), dict(good, end=77, transfer=5), dict(good, end=-1, transfer=5)]
    codes += [a.ask("GetVmImage", **b)[0] for b in bad]
    check(set(codes) == {"INVALID_ARGUMENT"}, "names, digests and peers that cannot be are INVALID_ARGUMENT", codes)
    codes = [a.ask("GetVmImage", name="none")[0], a.ask("GetVmImage", name="base", digest=bytes(32))[0],
             a.ask("GetVmImage", name="none", transfer=9)[0]]
    check(codes == ["NOT_FOUND"] * 3, "an image that is not here is NOT_FOUND", codes)
    check(a.ask("GetVmImage", chunk=bytes(32))[0] == "NOT_FOUND", "so is a chunk")
    a.truth["cache_misses_total"] += 1
    codes = [a.ask("GetVmImage", chunk=bytes(32), transfer=9)[0], a.ask("GetVmImage", transfer=9, end=1)[0],
             a.ask("GetVmImage", transfer=9, end=2, chunk=bytes(32))[0]]
    check(codes == ["FAILED_PRECONDITION"] * 3, "what is said of a transfer that has not begun is FAILED_PRECONDITION", codes)
    codes = [a.ask("GetVmImage", name="base", transfer=i)[0] for i in range(1, 19)]
    check(codes == ["OK"] * 16 + ["RESOURCE_EXHAUSTED"] * 2, "no more than sixteen transfers at a time", codes)
    a.truth["transfers_active"] = 16
    agree([a], "transfers under way show")
    check(a.status().sending == 16, "in the status, too", a.status())
    codes = [a.ask("GetVmImage", transfer=i, end=2, chunk=digests_of(b"x")[0])[0] for i in range(1, 17)]
    a.count("send", transfers=16, failures=16)
    a.truth["transfers_active"] = 0
    check(set(codes) == {"OK"} and a.read("one") == b"x", "a good chunk that somebody calls bad stays", codes)
    agree([a], "all of this is counted as what it is")


def test_no_peer(a):
    """Nobody listens there."""
    code, words = a.ask("GetVmImage", name="none", peer=f"127.0.0.1:{free_ports(1)[0]}")
    a.count("receive", failures=1)
    check(code == "UNAVAILABLE", "a peer that is not there is UNAVAILABLE", (code, words))


def test_damage(a, b, c):
    data = random_bytes(3 * CHUNK)
    check(a.share("victim", data) and b.fetch("victim", data, a)[0], "two nodes have an image")
    bad = digests_of(data)[1]
    path = os.path.join(a.data, "chunks", bad.hex())
    with open(path, "r+b") as f:
        f.seek(1000)
        f.write(bytes([data[CHUNK + 1000] ^ 1]))
    code, words = c.ask("GetVmImage", name="victim", peer=a.address)
    check(code == "DATA_LOSS", "with one bit of a chunk wrong on the disk of the first, the third gets DATA_LOSS", (code, words))
    check("victim" not in c.images() and not c.bad_files() and bad.hex() not in c.files(), "and keeps nothing of the bad chunk",
          (c.images(), c.bad_files()))
    check(wait_for(lambda: not os.path.exists(path)), "the first has looked, and dropped it")
    c.count("receive", 3 * CHUNK, failures=1)
    a.count("send", 3 * CHUNK, failures=1)
    for d in digests_of(data):
        c.looked_for(d)
    c.cache.update(d for d in digests_of(data) if d != bad)
    c.truth["chunks_transferred_total"] += 2
    c.truth["verifications_total"] += 1
    c.truth["verifications_failed_total"] += 1
    a.truth["cache_hits_total"] += 3
    a.cache.discard(bad)
    agree([a, b, c], "a failed verification is counted, and a failed transfer on both sides")
    code, _ = c.ask("GetVmImage", name="victim", peer=a.address)
    c.count("receive", failures=1)
    check(code == "NOT_FOUND" and a.images()["victim"] is False, "asked again, the first no longer has the image", code)
    good = c.fetch("victim", data, b)
    check(good == (True, 1, 2) and c.read("victim") == data, "from the second the third gets what is missing", good)
    good = a.fetch("victim", data, c)
    check(good == (True, 1, 2) and a.read("victim") == data, "and from the third the first is healed", good)
    agree([a, b, c], "the counters have followed")
    with open(os.path.join(b.data, "chunks", bad.hex()), "r+b") as f:
        f.truncate(1000)
    code, words = b.ask("GetVmImage", chunk=bad)
    b.truth["cache_misses_total"] += 1
    b.cache.discard(bad)
    check(code == "DATA_LOSS" and bad.hex() not in b.files(), "a file cut short is not served, but dropped", (code, words))
    agree([a, b, c], "and counted as a miss")


def test_file_taken_away(a, b):
    """The index still has the chunk when its file is gone: the verification of the whole finds out."""
    data = random_bytes(2 * CHUNK)
    check(a.share("taken", data) and b.fetch("taken", data, a)[0], "two nodes have another image")
    os.remove(os.path.join(b.data, "chunks", digests_of(data)[0].hex()))
    both = data + b"more"
    check(a.share("more", both), "of which a third one is made")
    code, words = b.ask("GetVmImage", name="more", peer=a.address)
    check(code == "DATA_LOSS" and "more" not in b.images(), "a chunk counted upon whose file is gone: DATA_LOSS", (code, words))
    code, reply = b.ask("GetVmImage", name="more", peer=a.address)
    check(code == "OK" and reply.chunks_moved == 1 and b.read("more") == both, "the next time it is moved", (code, reply))


class Liar:
    """A peer that can tell every lie."""

    def __init__(self):
        self.answer = None
        self.told = collections.Counter()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
        handler = grpc.method_handlers_generic_handler("blixard.Cluster", {
            "GetVmImage": grpc.unary_unary_rpc_method_handler(
                self.get, request_deserializer=pb.GetVmImageRequest.FromString, response_serializer=lambda reply: reply)})
        self.server.add_generic_rpc_handlers((handler,))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def get(self, request, context):
        self.told["end" if request.end else "chunk" if request.chunk else "image"] += 1
        if request.end:
            return b""
        reply = self.answer(request, context)
        return reply if isinstance(reply, bytes) else reply.SerializeToString()


def test_lies(node):
    data = random_bytes(2 * CHUNK + 5)
    parts = dict(zip(digests_of(data), chunks_of(data)))
    true = {"name": "lie", "size": len(data), "digest": sha(data), "chunks": b"".join(digests_of(data))}
    liar = Liar()

    def image(**lies):
        return lambda r, c: pb.GetVmImageReply(image=pb.VmImage(**dict(true, **lies)))

    def chunk(say):
        return lambda r, c: pb.GetVmImageReply(data=say(parts[r.chunk])) if r.chunk else image()(r, c)

    def refuse(r, c):
        c.abort(grpc.StatusCode.UNAUTHENTICATED, "go away")

    def silent(r, c):
        time.sleep(6)
        return b""

    manifests = {
        "another name": image(name="base"), "a path for a name": image(name="../../lie"), "no name": image(name=""),
        "another digest": image(digest=bytes(32)), "a short digest": image(digest=b"x"), "no size": image(size=0),
        "too few chunks": image(chunks=true["chunks"][:-32]), "half a chunk": image(chunks=true["chunks"][:-1]),
        "too large a size": image(size=len(data) + CHUNK), "an endless size": image(size=(1 << 64) - 1), "no image": lambda r, c: b""}
    codes = {}
    for name, answer in manifests.items():
        liar.answer = answer
        codes[name] = node.ask("GetVmImage", name="lie", digest=true["digest"], peer=liar.address)[0]
        node.count("receive", failures=1)
    check(set(codes.values()) == {"DATA_LOSS"}, "a peer that describes an image that cannot be: DATA_LOSS", codes)
    liar.answer = lambda r, c: b"\xff\xff"
    codes = [node.ask("GetVmImage", name="lie", peer=liar.address)[0]]
    liar.answer = lambda r, c: bytes([0x7a, 0x80, 0x80, 0xc0, 0x02]) + bytes(5 * MIB)
    codes.append(node.ask("GetVmImage", name="lie", peer=liar.address)[0])
    liar.answer = refuse
    codes.append(node.ask("GetVmImage", name="lie", peer=liar.address)[0])
    node.count("receive", transfers=3, failures=3)
    check(codes == ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAVAILABLE"], "what is no answer: nonsense, too much, a refusal", codes)
    liar.answer = image(size=(CACHE + CHUNK), chunks=bytes(32) * 65)
    code = node.ask("GetVmImage", name="lie", peer=liar.address)[0]
    node.count("receive", failures=1)
    check(code == "RESOURCE_EXHAUSTED" and liar.told["chunk"] == 0, "an image larger than the cache is not begun", code)
    before = node.files()
    codes = {}
    for name, answer in {"empty": lambda d: b"", "short": lambda d: d[:-1], "long": lambda d: d + b"x",
                         "of megabytes": lambda d: bytes(3 * MIB), "of other bytes": lambda d: bytes(len(d))}.items():
        liar.answer = chunk(answer)
        codes[name] = node.ask("GetVmImage", name="lie", peer=liar.address)[0]
    check(set(codes.values()) == {"DATA_LOSS"}, "chunks that are not what they should be: DATA_LOSS", codes)
    check(node.files() == before and "lie" not in node.images(), "nothing of them is kept", node.files())
    liar.answer = lambda r, c: pb.GetVmImageReply(data=parts[r.chunk]) if r.chunk else image(digest=bytes(32))(r, c)
    code = node.ask("GetVmImage", name="lie", peer=liar.address)[0]
    check(code == "DATA_LOSS" and "lie" not in node.images(), "good chunks, but the whole is not of its digest: DATA_LOSS", code)
    liar.answer = silent
    began = time.monotonic()
    code = node.ask("GetVmImage", name="quiet", peer=liar.address)[0]
    check(code == "DEADLINE_EXCEEDED" and time.monotonic() - began < 15, "a peer that says nothing: DEADLINE_EXCEEDED", code)
    m = node.metrics()
    check(m["blixard_p2p_verifications_failed_total"] - node.truth["verifications_failed_total"] == 6,
          "each of these six is a failed verification", (m["blixard_p2p_verifications_failed_total"], node.truth))
    failures = 'transfers_failed_total{direction="receive"}'
    check(m["blixard_p2p_" + failures] == node.truth[failures] + 7, "and with the silence there are seven failed transfers more")
    check(m["blixard_p2p_transfers_active"] == 0, "nothing is left under way", m["blixard_p2p_transfers_active"])
    liar.answer = chunk(lambda d: d)
    code = node.ask("GetVmImage", name="lie", peer=liar.address)[0]
    check(code == "OK" and node.read("lie") == data and not node.bad_files(), "when it tells the truth, the image is taken", code)
    liar.server.stop(None)


def test_eviction(node, other):
    images = {f"full-{i}": random_bytes(3 * MIB) for i in range(8)}
    for i, (name, data) in enumerate(images.items()):
        code, reply = node.ask("ShareVmImage", name=name, data=data)
        if code != "OK":
            check(False, f"{name} is shared", (code, reply))
        if i:
            node.ask("GetVmImage", name="full-0")  # a use
    status = node.status()
    on_disk = sum(os.path.getsize(os.path.join(node.data, "chunks", f)) for f in node.files())
    check(status.cached_bytes == on_disk <= CACHE == status.cache_max_bytes and status.chunks == len(node.files()) and status.chunks_evicted > 0,
          "the cache keeps to its bound", (status, on_disk))
    known = node.images()
    check(known["full-0"] and known["full-7"] and not known["full-1"], "what was unused for longest has gone", known)
    check(node.ask("GetVmImage", name="full-1")[0] == "NOT_FOUND", "an image of which chunks are gone is NOT_FOUND")
    check(node.read("full-0") == images["full-0"], "one that was used is whole")
    code, reply = other.ask("GetVmImage", name="full-7", peer=node.address)
    check(code == "OK" and other.read("full-7") == images["full-7"] and other.status().cached_bytes <= CACHE, "and can be fetched", (code, reply))


def test_restart(node, others):
    known, stored = node.images(), node.status()
    with open(os.path.join(node.data, "chunks", "unfinished"), "w") as f:
        f.write("half a chunk")
    with open(os.path.join(node.data, "images", "broken"), "wb") as f:
        f.write(os.urandom(100))
    node.process.terminate()
    check(node.process.wait(timeout=10) == 0, "a node stops cleanly", node.words()[-500:])
    os.makedirs(os.path.join(node.data, "chunks"), exist_ok=True)
    with open(os.path.join(node.data, "chunks", "unfinished"), "w") as f:
        f.write("half a chunk")
    node.start()
    check(wait_for(lambda: node.ask("ListP2pImages")[0] == "OK", 20), "and starts again")
    now = node.status()
    check(node.images() == known and (now.chunks, now.cached_bytes) == (stored.chunks, stored.cached_bytes),
          "with the images and chunks it had", (known, node.images(), stored, now))
    check("unfinished" not in node.files() and "broken" not in node.files("images"), "what was unfinished or broken is gone")


def test_stop(a, b):
    """A node that stops in the middle of a transfer."""
    liar = Liar()
    liar.answer = lambda r, c: time.sleep(4) or b""
    call = b.stub.GetVmImage.future(pb.GetVmImageRequest(name="late", peer=liar.address), timeout=20)
    check(wait_for(lambda: b.metrics().get("blixard_p2p_transfers_active") == 1, 5), "a transfer is under way")
    b.process.terminate()
    code = call.code().name
    check(code in ("CANCELLED", "UNAVAILABLE") and b.process.wait(timeout=10) == 0, "a node that stops ends its transfers", (code, b.words()[-300:]))
    liar.server.stop(None)


def test_load(directory, shm):
    """The node's own load, which the demo runs: of eight chunks three are new each time."""
    ports, nodes = free_ports(6), []
    try:
        for i in (1, 2):
            nodes.append(Node(directory, shm, i, ports, ("--load", "20")))
        moved, spared = "blixard_p2p_chunks_transferred_total", "blixard_p2p_chunks_deduplicated_total"
        check(wait_for(lambda: all(n.metrics().get(spared, 0) >= 5 for n in nodes), 40), "nodes under load share and fetch images by themselves",
              [n.words()[-300:] for n in nodes])
        def tidy(m):
            return m[moved] >= 8 and (m[moved] - 8) % 3 == 0 and m[spared] % 5 == 0

        check(wait_for(lambda: all(tidy(n.metrics()) for n in nodes), 5), "and move only what has changed",
              [(n.metrics()[moved], n.metrics()[spared]) for n in nodes])
        seen = [n.metrics() for n in nodes]
        check(all(m['blixard_p2p_transfers_failed_total{direction="receive"}'] == 0 for m in seen), "without a failure")
        for n in nodes:
            n.process.terminate()
        check([n.process.wait(timeout=10) for n in nodes] == [0, 0], "and they stop cleanly")
    finally:
        for n in nodes:
            n.end()


def run(nodes):
    a, b, c = nodes
    settled = wait_for(lambda: all(n.metrics().get("blixard_cluster_nodes_healthy") == 3 for n in nodes), 30)
    if not check(settled, "three nodes are one cluster", [n.words() for n in nodes]):
        return
    test_transfer(a, b, c)
    test_files(a, b)
    test_bad_requests(a)
    test_no_peer(a)
    agree(nodes, "the counters are still what the test has counted")
    test_damage(a, b, c)
    test_lies(c)
    test_file_taken_away(a, b)
    test_eviction(a, b)
    check(all(not n.bad_files() for n in nodes), "no node has a file that is not of its digest", [n.bad_files() for n in nodes])
    check(all(n.process.poll() is None for n in nodes), "every node lives", [n.words()[-300:] for n in nodes])
    test_restart(a, (b, c))
    test_stop(a, b)


def main():
    for program in (NODE, AGENT):
        if not os.access(program, os.X_OK):
            print(f"{program} is not built")
            return 77
    directory = tempfile.mkdtemp(prefix="blix-images-")
    shm = tempfile.mkdtemp(prefix="blix-images-", dir="/dev/shm")
    nodes = []
    global pb, stubs
    try:
        found = load_stubs(directory)
        if not found:
            print("python3-grpc-tools is not installed")
            return 77
        _, pb, stubs = found
        ports = free_ports(6)
        nodes = [Node(directory, shm, i, ports) for i in (1, 2, 3)]
        run(nodes)
        for folder in (directory, shm):
            os.mkdir(os.path.join(folder, "load"))
        test_load(os.path.join(directory, "load"), os.path.join(shm, "load"))
    finally:
        for n in nodes:
            n.end()
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(shm, ignore_errors=True)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
