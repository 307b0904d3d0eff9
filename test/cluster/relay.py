#!/usr/bin/env python3
"""A relay in front of every node of a cluster: relay.py STATE-FILE

Nodes and clients dial the relay, and it dials the node. It knows which node a connection comes from by
looking for the socket among the nodes' open files, so that it can part nodes from each other and leave
clients alone. Control is a line on a Unix socket; the answer is "ok" or what is wrong:

    cut N        nothing passes between node N and the others: bytes wait, connections hang
    join N       it passes again
    slow N MS    everything that goes to node N or comes from it takes MS milliseconds longer
    reset        every connection between two nodes is reset
"""

import asyncio
import os
import socket
import struct
import sys

import state

CHUNK_BYTES = 65536
DIAL_TIMEOUT_S = 5


def inode_of(port, peer_port):
    """Of the socket that is bound to `port` and connected to `peer_port` on the loopback."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):  # gRPC's sockets are of both families
        with open(path) as table:
            next(table)
            for line in table:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and int(fields[2].rpartition(":")[2], 16) == peer_port:
                    return fields[9]
    return None


def has_open(pid, inode):
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]" for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


class Connection:
    def __init__(self, source, port, target, writer):
        self.source, self.port, self.target, self.writers = source, port, target, [writer]

    def between_nodes(self):
        return self.source is not None

    def reset(self):
        for writer in self.writers:
            # No lingering: the other side sees a reset, not an end.
            s = writer.get_extra_info("socket")
            if s is not None and s.fileno() >= 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Relay:
    def __init__(self, path):
        self.path = path
        self.connections = set()
        self.cut, self.slow_ms = set(), {}
        self.changed = asyncio.Event()

    def source_of(self, port, own_port):
        inode = inode_of(port, own_port)
        for node in state.read(self.path)["nodes"] if inode else ():
            if node["pid"] and has_open(node["pid"], inode):
                return node["id"]
        return None

    def look_again(self):
        """A node may have dialled before the file had its pid."""
        ports = {node["id"]: node["port"] for node in state.read(self.path)["nodes"]}
        for c in self.connections:
            if c.source is None:
                c.source = self.source_of(c.port, ports[c.target])

    async def passage(self, c):
        """Wait until bytes of this connection may pass."""
        while c.between_nodes() and self.cut & {c.source, c.target}:
            await self.changed.wait()
        delay = sum(self.slow_ms.get(n, 0) for n in {c.source, c.target})
        if delay:
            await asyncio.sleep(delay / 1000)

    async def pump(self, c, reader, writer):
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self.passage(c)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(self, node, reader, writer):
        peer_port = writer.get_extra_info("peername")[1]
        c = Connection(self.source_of(peer_port, node["port"]), peer_port, node["id"], writer)
        self.connections.add(c)
        try:
            await self.passage(c)
            far = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", node["listen_port"]), DIAL_TIMEOUT_S)
            c.writers.append(far[1])
            await asyncio.gather(self.pump(c, reader, far[1]), self.pump(c, far[0], writer))
        except (OSError, asyncio.TimeoutError):
            c.reset()
        finally:
            for w in c.writers:
                w.close()
            self.connections.discard(c)

    def obey(self, words):
        numbers = [int(w) for w in words[1:] if w.isdigit()]
        verb = (words or [""])[0]
        self.look_again()
        if verb == "cut" and len(numbers) == 1:
            self.cut.add(numbers[0])
        elif verb == "join" and len(numbers) == 1:
            self.cut.discard(numbers[0])
        elif verb == "slow" and len(numbers) == 2:
            self.slow_ms[numbers[0]] = numbers[1]
        elif verb == "reset":
            for c in [c for c in self.connections if c.between_nodes()]:
                c.reset()
        else:
            return "what?"
        self.changed.set()
        self.changed = asyncio.Event()
        return "ok"

    async def control(self, reader, writer):
        line = await reader.readline()
        writer.write(self.obey(line.decode(errors="replace").split()).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def run(self):
        s = state.read(self.path)
        for node in s["nodes"]:
            await asyncio.start_server(lambda r, w, n=node: self.serve(n, r, w), "127.0.0.1", node["port"])
        server = await asyncio.start_unix_server(self.control, s["relay"]["control"])
        await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(Relay(sys.argv[1]).run())
