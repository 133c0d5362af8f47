"""Where the processor time of a member goes, by load: the tables of docs/performance.md.

Owns: which function counts for which row. Samples are taken by `perf`; each counts once, for the first row that fits.
"""

import collections
import os
import re
import signal
import subprocess
import threading
import time

from tables import table

SECONDS = 4
# Before samples are taken: connections are there, and buffers have grown.
WARM_S = 2
POLLS = 9_000
KEYS = 1_000_000

# Looked for in all functions of a sample, whatever called them.
CALLS = [
    ("sending (`sendto`, `writev`), with the receiver's half of the loopback device", r"sys_(sendto|writev|sendmsg)\b|^(tcp|inet)_sendmsg"),
    ("receiving (`recvfrom`)", r"sys_(recvfrom|recvmsg|readv)\b"),
    ("waiting and waking (epoll, futex, eventfd)", r"sys_(epoll_\w*|futex)\b|^(eventfd_write|do_epoll_wait|ep_poll|do_futex|schedule_idle)"),
    ("`fdatasync`", r"sys_f(data)?sync\b"),
    ("other reading and writing of files", r"sys_(p?write(64)?|p?read(64)?|fallocate|sync_file_range|fadvise64)\b"),
    ("faults on new pages of memory", r"^(asm_)?exc_page_fault|^handle_mm_fault"),
]

# Looked for in the function that was running.
LEAVES = [
    ("allocator", r"^_?mi_|mimalloc|^(malloc|free|calloc|realloc)$"),
    ("copying and comparing bytes", r"mem(cpy|move|cmp|set|chr)|bcmp"),
    ("readings of the clock", r"clock_gettime|^__vdso"),
]

# Looked for in its callers, the innermost first.
ROOMS = [
    ("checksums", r"crc32|xxh3|blake"),
    ("openraft's core, from the request to it and back", r"openraft|cairn::raft::(requests|voters|adapter)|replica::consensus"),
    ("frames between members", r"cairn::(transport|raft::net)"),
    ("the log's thread beside its calls", r"cairn::disk::wal"),
    ("checkpoints", r"redb::|cairn::(disk::tables|raft::storage::checkpoint)"),
    ("the tree, the state machine, publishing, the hub", r"cairn::(store|raft::storage|replica|mvcc|model)|imbl"),
    ("reading the request, rendering the answer", r"cairn::api|cairn::server::(fast_path|request_line|exchange)|httparse|serde_json|http::|percent"),
    ("connections: tasks, time limits, figures", r"cairn::server"),
    ("tokio", r"tokio|mio::|parking_lot"),
]


def row_of(functions, kernel):
    """The row of a sample. `functions` from the innermost out; `kernel`: the innermost one is the kernel's."""
    for row, pattern in CALLS:
        if any(re.search(pattern, function) for function in functions):
            return row
    if kernel:
        return "rest of the kernel"
    for row, pattern in LEAVES:
        if re.search(pattern, functions[0]):
            return row
    for function in functions:
        for row, pattern in ROOMS:
            if re.search(pattern, function):
                return row
    return "rest"


def samples(data):
    """Of each sample the functions, from the innermost out, and whether the innermost is the kernel's."""
    words = ["perf", "script", "-i", data, "-F", "ip,sym"]
    script = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    functions, kernel = [], False
    for line in script.stdout:
        line = line.strip()
        if line:
            address, _, function = line.partition(" ")
            if not functions:
                kernel = int(address, 16) >= 1 << 63
            functions.append(function)
        elif functions:
            yield functions, kernel
            functions, kernel = [], False
    if functions:
        yield functions, kernel


def profile(pid, folder, seconds):
    """Rows by how many samples each has."""
    data = f"{folder}/perf.data"
    words = ["perf", "record", "-q", "-F", "999", "--call-graph", "dwarf,16384", "-p", str(pid), "-o", data]
    subprocess.run([*words, "--", "sleep", str(seconds)], check=True)
    rows = collections.Counter(row_of(*sample) for sample in samples(data))
    os.remove(data)
    return rows


def under_load(sections, members, load, of, *flags):
    """The profile of one member, `leader` or `follower`, under a load that all members get."""
    bench = sections.bench
    with sections.cluster("cairn", members) as cluster:
        leaders = [cluster.ask("GET", url + "/v2/stats/self")[1].count(b"StateLeader") for url in cluster.urls]
        pid = cluster.pids[leaders.index(1 if of == "leader" else 0)]
        lasts = [] if "--requests" in flags else ["--duration", f"{WARM_S + SECONDS + 2}s"]
        loading = threading.Thread(target=bench.run, args=(cluster, load, *flags, *lasts))
        loading.start()
        time.sleep(WARM_S)
        rows = profile(pid, sections.folder, SECONDS)
        loading.join()
        return rows


def restart(sections):
    """A member that starts with a million keys, from its first moment until it reads through the cluster."""
    bench, folder = sections.bench, sections.folder
    with sections.cluster("cairn") as cluster:
        flags = ["--keys", KEYS, "--requests", KEYS, "--connections", 64]
        bench.run(cluster, "put", "--sequential", *flags)
        bench.run(cluster, "put", *flags)
        cluster.processes[0].kill()
        cluster.processes[0].wait()
        data, watched = f"{folder}/perf.data", f"{folder}/watched"
        with open(watched, "w") as script:
            record = f"perf record -q -F 1999 --call-graph dwarf,16384 -o {data}"
            script.write(f'#!/bin/sh\nexec {record} -- {bench.cairn} "$@"\n')
        os.chmod(watched, 0o755)
        cluster.program = watched
        cluster.start(0)
        try:
            cluster.wait()
        finally:
            # It passes the signal on to the member, and writes what it has.
            cluster.processes[0].send_signal(signal.SIGTERM)
            cluster.processes[0].wait()
        rows = collections.Counter(row_of(*sample) for sample in samples(data))
        os.remove(data)
        return rows


def profiles(sections):
    """All of them in one table, in percent of the samples of each."""
    many = ["--connections", 64]
    polls = ["--connections", POLLS, "--requests", 30, "--timeout", "60s"]
    columns = {
        "GET": lambda: under_load(sections, 1, "get", "leader", *many),
        "PUT": lambda: under_load(sections, 1, "put", "leader", *many),
        "PUT, leader of three": lambda: under_load(sections, 3, "put", "leader", *many),
        "PUT, follower": lambda: under_load(sections, 3, "put", "follower", *many),
        "quorum GET, leader of three": lambda: under_load(sections, 3, "qget", "leader", *many),
        "quorum GET, follower": lambda: under_load(sections, 3, "qget", "follower", *many),
        "fan-out": lambda: under_load(sections, 1, "watch-one", "leader", *polls),
        "restart": lambda: restart(sections),
    }
    counts = {}
    for name, taken in columns.items():
        counts[name] = taken()
        print(f"{name}: {counts[name].total()} samples", flush=True)
    order = [row for row, _ in CALLS] + ["rest of the kernel"] + [row for row, _ in LEAVES + ROOMS] + ["rest"]
    rows = []
    for row in order:
        shares = [100 * count[row] / max(1, count.total()) for count in counts.values()]
        rows.append([row, *(f"{share:.1f}" if share >= 0.05 else "" for share in shares)])
    rows.append(["samples", *(str(count.total()) for count in counts.values())])
    text = f"\nCairn alone, each load once: samples of {SECONDS} s; of the restart, up to the first quorum read.\n"
    return table(["percent of the processor time", *columns], rows) + text
