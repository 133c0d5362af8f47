"""What is measured: each section gives its part of the document.

Owns: which loads, in which order, on which clusters. Never knows: processes, how a run is made.
"""

import os
import shutil

from measure import alternate, median
from servers import Cluster, Floor, Pki
from tables import number, ratio, table

KINDS = ["etcd", "cairn"]
POLLS = 9_000
MILLION = 1_000_000
# Of these, each connection waits for others anyway: one number of connections tells enough.
ALONE = [("put", 1), ("put", 64), ("get", 1), ("get", 64), ("qget", 1), ("qget", 64)]
MORE = [("mixed", 64), ("create-in-order", 64), ("cas", 64), ("ttl", 64), ("listing", 64)]
TOGETHER = [(load, connections) for load in ("put", "get", "qget") for connections in (1, 64, 256)]
V3_LOADS = ("v3-put", "v3-range", "v3-range-serializable", "v3-txn")
V3_ALONE = [(load, connections) for load in V3_LOADS for connections in (1, 64, 1000)] + [("v3-keepalive", 64), ("v3-keepalive", 1000)]
V3_TOGETHER = [(load, connections) for load in V3_LOADS for connections in (1, 64)]
V3_WATCHERS = 10_000
OF_LISTINGS = ["--keys", 1000]


class Sections:
    def __init__(self, options, bench, programs, folder):
        self.options, self.bench, self.programs, self.folder = options, bench, programs, folder
        self.made, self.pki = 0, None

    def cluster(self, kind, members=1, tls=False, auth=False, flags=()):
        self.made += 1
        if tls and not self.pki:
            self.pki = Pki(self.folder)
        pki = self.pki if tls else None
        where = f"{self.folder}/{kind}-{self.made}"
        return Cluster(kind, self.programs[kind], where, members, pki, auth, flags)

    def requests(self, members, tls, auth):
        """Loads that ask, side by side."""
        if auth:
            return self.with_and_without_auth(members, tls)
        return self.side_by_side(ALONE + MORE if members == 1 and not tls else TOGETHER if members > 1 else ALONE, members, tls)

    def version_three(self, members):
        return self.side_by_side(V3_ALONE if members == 1 else V3_TOGETHER, members)

    def side_by_side(self, loads, members, tls=False):
        heads = ["load", "connections", "etcd 1/s", "cairn 1/s", "ratio", "etcd p50 ms", "cairn p50 ms"]
        heads += ["etcd p99 ms", "cairn p99 ms", "etcd CPU us", "cairn CPU us", "ratio"]
        rows = []
        with self.cluster("etcd", members, tls) as etcd, self.cluster("cairn", members, tls) as cairn:
            clusters = {"etcd": etcd, "cairn": cairn}
            for load, connections in loads:
                flags = ["--connections", connections, *(OF_LISTINGS if load == "listing" else [])]
                one = lambda kind: self.bench.run(clusters[kind], load, *flags)
                results = alternate(self.options.rounds, KINDS, one)
                row = compared(results)
                rows.append([load, connections, *row])
                print(" ".join(map(str, rows[-1])), flush=True)
            after = {kind: cluster.resident_mib() for kind, cluster in clusters.items()}
        memory = ", ".join(f"{kind} {number(mib)} MiB" for kind, mib in after.items())
        return table(heads, rows) + f"\nResident after these runs, the largest member: {memory}.\n"

    def with_and_without_auth(self, members, tls):
        heads = ["load", "connections", "etcd off 1/s", "etcd on 1/s", "cairn off 1/s", "cairn on 1/s", "on/off"]
        heads += ["cairn off CPU us", "cairn on CPU us", "on/off"]
        rows, cluster = [], self.cluster
        with (
            cluster("etcd", members, tls) as etcd,
            cluster("etcd", members, tls, auth=True) as etcd_on,
            cluster("cairn", members, tls) as cairn,
            cluster("cairn", members, tls, auth=True) as cairn_on,
        ):
            clusters = {"etcd": etcd, "etcd on": etcd_on, "cairn": cairn, "cairn on": cairn_on}
            for load, connections in ALONE:
                # etcd takes tens of milliseconds for each password: a few keys are filled in time.
                flags = ["--connections", connections, "--keys", 10, "--timeout", "60s"]
                one = lambda kind: self.bench.run(clusters[kind], load, *flags)
                results = alternate(self.options.rounds, list(clusters), one)
                rates = {kind: median(runs, "requests", "rate") for kind, runs in results.items()}
                cpu = {kind: median(results[kind], "server", "cpu_us") for kind in ("cairn", "cairn on")}
                row = [load, connections, *(number(rates[kind]) for kind in clusters)]
                row += [ratio(rates["cairn on"], rates["cairn"]), number(cpu["cairn"]), number(cpu["cairn on"])]
                rows.append([*row, ratio(cpu["cairn on"], cpu["cairn"])])
                print(" ".join(map(str, rows[-1])), flush=True)
        return table(heads, rows)

    def floor(self):
        """Both beside a server that does nothing but what the kernel must do: how much of a request no server could spare."""
        kinds = [*KINDS, "floor"]
        floor = Floor(self.programs["floor"], f"{self.folder}/floor")
        heads = ["load", "connections", *(f"{kind} 1/s" for kind in kinds), *(f"{kind} CPU us" for kind in kinds)]
        heads += ["cairn / etcd", "floor / etcd", "cairn / floor"]
        rows = []
        with self.cluster("etcd") as etcd, self.cluster("cairn") as cairn, floor:
            clusters = {"etcd": etcd, "cairn": cairn, "floor": floor}
            for load, connections in [("get", 1), ("get", 64), ("put", 1), ("put", 64), ("watch-one", POLLS)]:
                flags = ["--connections", connections]
                flags += ["--requests", 10, "--timeout", "60s"] if load == "watch-one" else []
                one = lambda kind: self.bench.run(clusters[kind], load, *flags)
                results = alternate(self.options.rounds, kinds, one)
                events = load == "watch-one"
                rates = ["" if events else number(median(results[kind], "requests", "rate")) for kind in kinds]
                cpu = {kind: median(results[kind], "server", "cpu_us") for kind in kinds}
                row = [load, connections, *rates, *(number(cpu[kind]) for kind in kinds)]
                row += [ratio(cpu[one], cpu[other]) for one, other in (("cairn", "etcd"), ("floor", "etcd"), ("cairn", "floor"))]
                rows.append(row)
                print(" ".join(map(str, row)), flush=True)
        return table(heads, rows) + "\nOf watch-one, for each event with its next poll.\n"

    def polls(self):
        """Thousands of long polls of one key, on fresh members."""

        def one(kind):
            with self.cluster(kind) as cluster:
                idle = cluster.resident_mib()
                flags = ["--connections", POLLS, "--requests", 10, "--timeout", "60s"]
                result = self.bench.run(cluster, "watch-one", *flags)
                return {**result, "idle_mib": idle}

        results = alternate(self.options.rounds, KINDS, one)
        rows = []
        for name, path, scale in [
            ("KiB a waiting poll", ("watch", "server_bytes_per_watcher"), 1 / 1024),
            ("server CPU an event, the next poll included, us", ("server", "cpu_us"), 1),
            ("PUT to the last event, median ms", ("watch", "last_event_after_sending_ms", "p50"), 1),
            ("PUT to the last event, longest ms", ("watch", "last_event_after_sending_ms", "max"), 1),
            ("generator CPU an event, us", ("generator", "cpu_us"), 1),
        ]:
            rows.append(beside(name, results, path, scale))
        heads = [f"{POLLS:,} long polls of one key", "etcd", "cairn", "ratio"]
        return table(heads, rows)

    def version_three_watchers(self):
        """Thousands of watchers, a hundred on a stream, on fresh members."""

        def one(load, *flags):
            def run(kind):
                with self.cluster(kind) as cluster:
                    return self.bench.run(cluster, load, "--connections", V3_WATCHERS, *flags, "--timeout", "60s")

            return alternate(self.options.rounds, KINDS, run)

        rows = []
        for what, results in [
            ("one key", one("v3-watch-one", "--requests", 20)),
            ("a key each", one("v3-watch-many", "--requests", 2000)),
        ]:
            for name, path, scale in [
                ("KiB a watcher", ("watch", "server_bytes_per_watcher"), 1 / 1024),
                ("server CPU an event, us", ("server", "cpu_us"), 1),
                ("put to its last event, median ms", ("watch", "last_event_after_sending_ms", "p50"), 1),
                ("put to its last event, longest ms", ("watch", "last_event_after_sending_ms", "max"), 1),
            ]:
                rows.append(beside(f"{what}: {name}", results, path, scale))
        return table([f"{V3_WATCHERS:,} watchers", "etcd", "cairn", "ratio"], rows)

    def version_three_million(self):
        """A million keys of version 3: once, for it takes minutes."""

        def one(kind):
            with self.cluster(kind) as cluster:
                flags = ["--connections", 64, "--keys", MILLION, "--requests", MILLION, "--timeout", "120s"]
                filled = self.bench.run(cluster, "v3-put", "--sequential", *flags)
                after_filling = cluster.resident_mib()
                os.sync()
                return {
                    "filled, 1/s": filled["requests"]["rate"],
                    "server CPU a put, us": filled["server"]["cpu_us"],
                    "longest put, ms": filled["latency_ms"]["max"],
                    "resident after filling, MiB": after_filling,
                    "kill -9 and restart until a quorum read, s": cluster.restart_after_kill(),
                    "resident after the restart, MiB": cluster.resident_mib(),
                }

        return million_of({kind: one(kind) for kind in KINDS})

    def million(self):
        """A million keys: once, for it takes minutes."""

        def one(kind):
            # What the one before has left to be written out, or freed, is none of this one's.
            os.sync()
            with self.cluster(kind) as cluster:
                flags = ["--connections", 64, "--keys", MILLION, "--requests", MILLION, "--timeout", "120s"]
                filled = self.bench.run(cluster, "put", "--sequential", *flags)
                after_filling = cluster.resident_mib()
                again = self.bench.run(cluster, "put", *flags)
                after_again = cluster.resident_mib()
                # What both have left to be written out would take the disk while they start.
                os.sync()
                restart_s = cluster.restart_after_kill()
                return {
                    "filled, 1/s": filled["requests"]["rate"],
                    "longest PUT while filling, ms": filled["latency_ms"]["max"],
                    "overwritten, 1/s": again["requests"]["rate"],
                    "longest PUT while overwriting, ms": again["latency_ms"]["max"],
                    "p99.9 while overwriting, ms": again["latency_ms"]["p999"],
                    "resident after filling, MiB": after_filling,
                    "resident after overwriting, MiB": after_again,
                    "kill -9 and restart until a quorum read, s": restart_s,
                    "resident after the restart, MiB": cluster.resident_mib(),
                }

        # The one with less to give back first: gigabytes that are freed on the disk hold up the syncs of the next.
        return million_of({kind: one(kind) for kind in reversed(KINDS)})

    def small(self):
        """What a member with little data takes."""

        def one(kind):
            with self.cluster(kind) as cluster:
                fresh = cluster.resident_mib()
                self.bench.run(cluster, "put", "--connections", 8, "--requests", 1000, "--keys", 100)
                few = cluster.resident_mib()
                self.bench.run(cluster, "put", "--connections", 64)
                return {"fresh": fresh, "few": few, "run": cluster.resident_mib()}

        results = alternate(self.options.rounds, KINDS, one)
        rows = []
        for name, key in [
            ("fresh", "fresh"),
            ("after 1,000 writes to 100 keys", "few"),
            ("after a run of PUTs with 64 connections", "run"),
        ]:
            values = [median(results[kind], key) for kind in KINDS]
            rows.append([name, *map(number, values), ratio(values[1], values[0])])
        return table(["resident memory of a member, MiB", "etcd", "cairn", "ratio"], rows)


def beside(name, results, path, scale):
    """A row with one number of both."""
    values = [median(results[kind], *path) for kind in KINDS]
    values = [value * scale for value in values if value is not None]
    return [name, *map(number, values), ratio(values[1], values[0])]


def million_of(results):
    """The table of one run of each."""
    rows = []
    for name in results["cairn"]:
        values = [results[kind][name] for kind in KINDS]
        rows.append([name, *map(number, values), ratio(values[1], values[0])])
    return table(["a million keys of 256 bytes, 64 writers", "etcd", "cairn", "ratio"], rows)


def compared(results):
    """The columns of a row of requests."""
    value = lambda kind, *path: median(results[kind], *path)
    rates = [value(kind, "requests", "rate") for kind in KINDS]
    row = [*map(number, rates), ratio(rates[1], rates[0])]
    for part in ("p50", "p99"):
        row += [number(value(kind, "latency_ms", part)) for kind in KINDS]
    cpu = [value(kind, "server", "cpu_us") for kind in KINDS]
    return [*row, *map(number, cpu), ratio(cpu[1], cpu[0])]


def describe_machine():
    """One sentence."""
    cpu = "a processor"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage("/").total / 2**30
    return f"{os.cpu_count()} processors ({cpu}), {memory:.0f} GiB of memory, disk of {free:.0f} GiB, Linux {os.uname().release}"
