"""What must stay bounded: a leader whose follower is dead, a member that gave its keys back, memory over time.

Owns: which states, and what is looked at meanwhile. Never knows: how results look.
"""

import json
import os
import threading
import time

from measure import Bench
from servers import resident_mib
from tables import number, table

# What 500 writes a second are in an hour.
HOUR_OF_WRITES = 1_800_000
PARTS = 6
MILLION = 1_000_000
# More than a history of events of 256 bytes holds, with some checkpoints.
USED_WRITES = 1_000_000
# A member gives memory back beside its work.
GIVES_BACK_S = 60
MIXED_RATE = 2_000
# Caches, the history and the log are as large as they get after some checkpoints: half of these are writes.
MIXED_BEFORE = 2_400_000
SAMPLE_S = 15
PATIENCE = ["--timeout", "120s"]


def dead_follower(bench, cluster):
    """One of three members is killed; the others take an hour's writes as fast as they can, and then it comes back."""
    dead = next(number for number, url in enumerate(cluster.urls) if state_of(cluster, url) != "StateLeader")
    leader = next(number for number, url in enumerate(cluster.urls) if state_of(cluster, url) == "StateLeader")
    living = [number for number in range(len(cluster.urls)) if number != dead]
    cluster.processes[dead].kill()
    cluster.processes[dead].wait()
    flags = ["--connections", 64, "--keys", 1000, *PATIENCE]
    rows, written = [], 0
    for _ in range(PARTS):
        load(bench, cluster, living, "put", "--requests", HOUR_OF_WRITES // PARTS, *flags)
        written += HOUR_OF_WRITES // PARTS
        disk = folder_mib(f"{cluster.folder}/m{leader}")
        rows.append([cluster.kind, f"{written:,}", number(resident_mib(cluster.pids[leader])), number(disk)])
    wanted = raft_index(cluster, cluster.urls[leader])
    begun = time.monotonic()
    cluster.start(dead)
    while raft_index(cluster, cluster.urls[dead]) < wanted:
        time.sleep(0.01)
    return rows, time.monotonic() - begun


def gives_back(bench, cluster):
    """A million keys come and go at once, at a member that was in use before: its history and its log are full."""
    bench.run(cluster, "put", "--connections", 64, "--keys", 1000, "--requests", USED_WRITES, *PATIENCE)
    before = resident_mib(cluster.pids[0])
    flags = ["--sequential", "--connections", 64, "--keys", MILLION, "--requests", MILLION, *PATIENCE]
    bench.run(cluster, "put", *flags)
    full = resident_mib(cluster.pids[0])
    status, said = cluster.ask("DELETE", cluster.urls[0] + "/v2/keys/bench?recursive=true")
    if status != 200:
        raise RuntimeError(f"{cluster.kind}: {status} {said[:200]}")
    time.sleep(GIVES_BACK_S)
    return [cluster.kind, *map(number, (before, full, resident_mib(cluster.pids[0])))]


def over_time(bench, clusters, minutes):
    """Reads and writes at a fixed rate, beside each other on all clusters that had many before; resident MiB and seconds since the
    start, by kind."""
    samples = {cluster.kind: [] for cluster in clusters}
    flags = ["--connections", 32, "--keys", 10_000, "--reads", 50, *PATIENCE]
    for cluster in clusters:
        bench.run(cluster, "mixed", "--requests", MIXED_BEFORE, *flags)
    flags += ["--rate", MIXED_RATE, "--duration", f"{minutes}m"]
    threads = [threading.Thread(target=bench.run, args=(cluster, "mixed", *flags)) for cluster in clusters]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for cluster in clusters:
            samples[cluster.kind].append((time.monotonic() - begun, resident_mib(cluster.pids[0])))
        threads[0].join(SAMPLE_S)
    return samples


def slope_mib_an_hour(samples):
    """Least squares over the last two thirds."""
    samples = samples[len(samples) // 3 :]
    count = len(samples)
    mean_s = sum(at for at, _ in samples) / count
    mean_mib = sum(mib for _, mib in samples) / count
    spread = sum((at - mean_s) ** 2 for at, _ in samples)
    return 3600 * sum((at - mean_s) * (mib - mean_mib) for at, mib in samples) / spread


def bounded(sections, kinds, minutes):
    """The part of the document."""
    bench = Bench(sections.bench.cairn, sections.bench.seconds)
    rows, returns, given = [], [], []
    for kind in kinds:
        with sections.cluster(kind, 3) as cluster:
            more, back_s = dead_follower(bench, cluster)
            rows += more
            returns.append(f"{kind} {number(back_s)} s")
        with sections.cluster(kind) as cluster:
            given.append(gives_back(bench, cluster))
    text = "One of three members is dead while an hour's writes come as fast as they are taken:\n\n"
    text += table(["", "writes", "leader's memory, MiB", "its data directory, MiB"], rows)
    text += f"\nStarted again, it holds everything after: {', '.join(returns)}.\n\nA million keys of 256 bytes, deleted at once:\n\n"
    text += table(["resident, MiB", "before", "with them", f"{GIVES_BACK_S} s after"], given)
    with sections.cluster(kinds[0]) as one, sections.cluster(kinds[1]) as other:
        samples = over_time(bench, [one, other], minutes)
    heads = [f"{MIXED_RATE:,} requests a second, half of them writes, {minutes} minutes", "resident at a third, MiB", "at the end", "slope, MiB an hour"]
    over = [
        [kind, number(points[len(points) // 3][1]), number(points[-1][1]), number(slope_mib_an_hour(points))]
        for kind, points in samples.items()
    ]
    return text + "\n" + table(heads, over)


def load(bench, cluster, living, *words):
    """A run against some of the members."""
    part = Part(cluster, living)
    return bench.run(part, *words)


class Part:
    """Some members of a cluster, as far as `Bench` looks."""

    def __init__(self, cluster, members):
        self.kind, self.cluster, self.members = cluster.kind, cluster, members

    def flags_of_clients(self):
        urls = ",".join(self.cluster.urls[number] for number in self.members)
        pids = ",".join(str(self.cluster.pids[number]) for number in self.members)
        return ["--endpoints", urls, "--pid", pids]


def state_of(cluster, url):
    _, said = cluster.ask("GET", url + "/v2/stats/self")
    return json.loads(said)["state"]


def raft_index(cluster, url):
    """The last entry that a member has applied; 0 while it does not answer."""
    status, headers = cluster.headers(url + "/v2/keys/")
    return int(headers["X-Raft-Index"]) if status == 200 else 0


def folder_mib(folder):
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_blocks * 512
            except FileNotFoundError:
                # A segment of the log that was given up meanwhile.
                continue
    return total / 2**20
