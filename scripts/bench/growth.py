"""How results grow with what they depend on: keys, connections, members, watchers, sizes.

Owns: which sizes, one short run for each. Never knows: how plots look.
"""

import json
import resource
import signal
import subprocess
import time

from measure import Bench
from sections import KINDS
from servers import resident_mib

KEYS = [10_000, 40_000, 160_000, 640_000, 3_000_000]
CONNECTIONS = [1, 4, 16, 64, 256, 1024]
MEMBERS = [1, 2, 3, 4, 5]
WATCHERS = [100, 400, 1_600, 6_400, 16_000]
# More than one process may have files for in many places: spread over three members, and three programs that wait.
MANY_WATCHERS, SPREAD, PUTS = 50_000, 3, 5
VALUE_BYTES = [100, 400, 1_600, 6_400, 25_600, 102_400, 409_600, 1 << 20]
CHILDREN = [10, 40, 160, 640, 2_560, 10_240, 40_960, 100_000]
PATIENCE = ["--timeout", "120s"]
# What a server gets to finish what a filling has left.
SETTLES_S = 10
# Descriptors that a server keeps for itself beside those of its clients; cairn sets most aside.
DESCRIPTORS = 2_000


class Growth:
    def __init__(self, sections, seconds, scale):
        self.cluster, self.scale = sections.cluster, scale
        self.bench = Bench(sections.bench.cairn, seconds)

    def sizes(self, sizes):
        """All of them, or, to try the script, those up to `scale` of the largest."""
        return [size for size in sizes if size <= max(sizes) * self.scale] or sizes[:1]

    # Each gives `(name, title, x, y, lines)` of its plots, one after the other.

    def keys(self):
        rates, memory, restarts = new_lines("put", "get"), new_lines(), new_lines()
        for kind in KINDS:
            with self.cluster(kind) as cluster:
                there = 0
                for keys in self.sizes(KEYS):
                    # The rest of the keys are written; their numbers go on where the last ones ended.
                    flags = ["--sequential", "--requests", keys - there, "--keys", keys - there]
                    flags += ["--prefix", f"/keys-{keys}", *PATIENCE]
                    filled = self.bench.run(cluster, "put", *flags)
                    there = keys
                    # A checkpoint or a collection that the filling has left is part of what writes cost, not reads.
                    time.sleep(SETTLES_S)
                    read = self.bench.run(cluster, "get", "--no-fill", *flags[3:])
                    rates[f"{kind} put"].append((keys, filled["requests"]["rate"]))
                    rates[f"{kind} get"].append((keys, read["requests"]["rate"]))
                    memory[kind].append((keys, cluster.resident_mib()))
                    restarts[kind].append((keys, cluster.restart_after_kill()))
        yield "keys-rate", "Requests with 64 connections", "keys", "requests a second", rates
        yield "keys-memory", "Resident memory, values of 256 bytes", "keys", "MiB", memory
        yield "keys-restart", "kill -9, restart until the first quorum read", "keys", "seconds", restarts

    def connections(self):
        rates, tails = new_lines("put", "get"), new_lines("put", "get")
        for kind in KINDS:
            with self.cluster(kind) as cluster:
                for connections in self.sizes(CONNECTIONS):
                    for load in ("put", "get"):
                        result = self.bench.run(cluster, load, "--connections", connections, *PATIENCE)
                        rates[f"{kind} {load}"].append((connections, result["requests"]["rate"]))
                        tails[f"{kind} {load}"].append((connections, result["latency_ms"]["p99"]))
        yield "connections-rate", "Requests", "connections", "requests a second", rates
        yield "connections-p99", "99th percentile", "connections", "ms", tails

    def members(self):
        rates, cpu = new_lines("put", "qget"), new_lines("put", "qget")
        for kind in KINDS:
            for members in MEMBERS:
                with self.cluster(kind, members) as cluster:
                    for load in ("put", "qget"):
                        result = self.bench.run(cluster, load, *PATIENCE)
                        rates[f"{kind} {load}"].append((members, result["requests"]["rate"]))
                        cpu[f"{kind} {load}"].append((members, result["server"]["cpu_us"]))
        label = "members, all on this machine"
        yield "members-rate", "Requests with 64 connections", label, "requests a second", rates
        yield "members-cpu", "CPU of all members together", label, "us a request", cpu

    def watchers(self):
        last, memory, cpu = new_lines(), new_lines(), new_lines()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for kind in KINDS:
            for watchers in self.sizes(WATCHERS):
                if limit != resource.RLIM_INFINITY and watchers + DESCRIPTORS > limit:
                    print(f"{watchers} watchers need more than {limit} open files: left out")
                    continue
                with self.cluster(kind) as cluster:
                    flags = ["--connections", watchers, "--requests", 5, *PATIENCE]
                    result = self.bench.run(cluster, "watch-one", *flags)
                    spread = result["watch"]["last_event_after_sending_ms"]
                    last[kind].append((watchers, spread["p50"]))
                    cpu[kind].append((watchers, result["server"]["cpu_us"]))
                    memory[kind].append((watchers, cluster.resident_mib()))
            if self.scale >= 1:
                with self.cluster(kind, SPREAD) as cluster:
                    spread = ManyWatchers(self.bench.cairn, cluster).measure()
                for line, value in zip((last, cpu, memory), spread):
                    line[kind].append((MANY_WATCHERS, value))
        label = f"long polls of one key (the last point: of {SPREAD} members together)"
        yield "watchers-last", "PUT to the last watcher's event", label, "ms", last
        yield "watchers-cpu", "Server CPU an event, the next poll included", label, "us", cpu
        yield "watchers-memory", "Resident memory", label, "MiB", memory

    def values(self):
        rates = new_lines("put", "get")
        for kind in KINDS:
            for value_bytes in self.sizes(VALUE_BYTES):
                with self.cluster(kind) as cluster:
                    flags = ["--value-size", value_bytes, "--connections", 16, "--keys", 32, *PATIENCE]
                    for load in ("put", "get"):
                        result = self.bench.run(cluster, load, *flags)
                        rates[f"{kind} {load}"].append((value_bytes, result["requests"]["rate"]))
        yield "values-rate", "Requests with 16 connections", "bytes of a value", "requests a second", rates

    def directories(self):
        rates, cpu = new_lines(), new_lines()
        for kind in KINDS:
            with self.cluster(kind) as cluster:
                for children in self.sizes(CHILDREN):
                    flags = ["--keys", children, "--value-size", 100, "--connections", 4, *PATIENCE]
                    result = self.bench.run(cluster, "listing", *flags)
                    rates[kind].append((children, result["requests"]["rate"]))
                    cpu[kind].append((children, result["server"]["cpu_us"]))
        yield "directories-rate", "Listings with 4 connections", "children of 100 bytes", "listings a second", rates
        yield "directories-cpu", "Server CPU a listing", "children of 100 bytes", "us", cpu


class ManyWatchers:
    """Long polls of one key on all members of a cluster, each with a program of its own that waits."""

    def __init__(self, cairn, cluster):
        self.cairn, self.cluster = cairn, cluster
        self.each = -(-MANY_WATCHERS // len(cluster.urls))

    def measure(self):
        """Milliseconds from a PUT to the last event, the servers' CPU an event in us, their memory in MiB."""
        waiters = [self.waiter(url) for url in self.cluster.urls]
        try:
            self.all_wait()
            before = self.cluster.processor_s()
            for _ in range(PUTS):
                self.put()
                # All members have begun to tell it by then: none has all its polls waiting still.
                time.sleep(0.2)
                self.all_wait()
            processor_s = self.cluster.processor_s() - before
            memory = sum(map(resident_mib, self.cluster.pids))
        finally:
            for waiter in waiters:
                waiter.send_signal(signal.SIGINT)
        results = [json.loads(waiter.communicate()[0])["watch"] for waiter in waiters]
        events = sum(result["events"] for result in results)
        if events != PUTS * self.each * len(waiters):
            raise RuntimeError(f"{self.cluster.kind}: {events} events: {results}")
        # The slowest member's: that of the PUT with the median.
        last = max(result["last_event_after_sending_ms"]["p50"] for result in results)
        return last, processor_s * 1e6 / events, memory

    def waiter(self, url):
        words = [self.cairn, "bench", "watch-along", "--endpoints", url, "--connections", str(self.each)]
        words += ["--duration", "30m", *PATIENCE, "--output", "json"]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def all_wait(self):
        """Waits until each member has its long polls, again behind the last event."""
        deadline = time.monotonic() + 300
        for url in self.cluster.urls:
            while self.waiting(url) < self.each:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.cluster.kind}: only {self.waiting(url)} long polls wait at {url}")
                time.sleep(0.2)

    def waiting(self, url):
        _, text = self.cluster.ask("GET", url + "/metrics")
        for line in text.decode().splitlines():
            name, _, value = line.partition(" ")
            if name == "etcd_debugging_store_watchers":
                return float(value)
        return 0

    def put(self):
        """Its value begins with the moment, as `cairn bench` writes them."""
        stamp = f"{time.clock_gettime_ns(time.CLOCK_MONOTONIC):020}"
        status, said = self.cluster.ask("PUT", f"{self.cluster.urls[0]}/v2/keys/bench/watched/{0:010}", f"value={stamp:x<256}")
        if status not in (200, 201):
            raise RuntimeError(f"{self.cluster.kind}: the PUT got {status}: {said[:200]}")


# In the order of the document.
CURVES = {
    "keys": Growth.keys,
    "connections": Growth.connections,
    "members": Growth.members,
    "watchers": Growth.watchers,
    "values": Growth.values,
    "directories": Growth.directories,
}


def new_lines(*loads):
    names = [f"{kind} {load}" for load in loads for kind in KINDS] if loads else KINDS
    return {name: [] for name in names}
