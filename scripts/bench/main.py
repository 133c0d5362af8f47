"""The command line of scripts/bench.sh: which sections, and where their results go."""

import argparse
import datetime
import os
import resource
import shutil
import signal
import sys
import tempfile
import time

from bounded import bounded
from growth import CURVES, Growth
from measure import Bench
from plot import svg
from profiles import profiles
from sections import KINDS, Sections, describe_machine
from tables import number, replace_part, table

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCUMENT = os.path.join(ROOT, "docs/benchmarks.md")
PLOTS = os.path.join(ROOT, "docs/growth")
FILES_WANTED = 200_000
RUN_SECONDS = 5
GROWTH_SECONDS = 2
HEAD = """# Measured: cairn beside etcd 3.4

Written by `scripts/bench.sh --write`: both servers on one machine, in alternating runs, with the load of `cairn bench` on the same
processors. Rates are answers a second, CPU is that of the servers for each answer (all members together), columns are medians.
Only ratios travel to another machine.
"""
# In the order of the document: a name, a heading, what is measured.
SECTIONS = {
    "requests": ("One member", lambda sections: sections.requests(1, False, False)),
    "cluster": ("Three members, connections spread over them", lambda sections: sections.requests(3, False, False)),
    "tls": ("One member, TLS 1.3 (ECDSA P-256)", lambda sections: sections.requests(1, True, False)),
    "auth": ("One member, with a password in each request, and without", lambda sections: sections.requests(1, False, True)),
    "polls": ("Long polls", Sections.polls),
    "floor": ("Beside the least that a server can do (`benches/floor`)", Sections.floor),
    "million": ("A million keys", Sections.million),
    "v3": ("Version 3: one member", lambda sections: sections.version_three(1)),
    "v3-cluster": ("Version 3: three members, connections spread over them", lambda sections: sections.version_three(3)),
    "v3-watchers": ("Version 3: watchers", Sections.version_three_watchers),
    "v3-million": ("Version 3: a million keys", Sections.version_three_million),
    "small": ("A small member", Sections.small),
    "profile": ("Where the processor time of a member goes (`perf`)", profiles),
    "bounded": ("What stays bounded", lambda sections: bounded(sections, KINDS, sections.options.minutes)),
}


def read_options():
    about = "Measures cairn and etcd 3.4 side by side on this machine. Without --section: one table, of --members, --tls, --auth."
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=about)
    parser.add_argument("--members", type=int, default=1, help="members of each cluster (1)")
    parser.add_argument("--tls", action="store_true", help="clients speak TLS")
    parser.add_argument("--auth", action="store_true", help="also with authentication on, every request signed")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs, of which medians are shown (5)")
    parser.add_argument("--seconds", type=float, help="length of a run (5; of --growth 2)")
    parser.add_argument("--section", action="append", choices=[*SECTIONS, "all"], help="measure this part of the document")
    parser.add_argument("--minutes", type=int, default=30, help="of the section bounded, how long memory is looked at (30)")
    parser.add_argument("--growth", action="store_true", help="curves of growing sizes; about 15 minutes")
    parser.add_argument("--curve", action="append", choices=CURVES, help="of --growth, only what grows with this")
    parser.add_argument("--scale", type=float, default=1, help="of --growth, only sizes up to this part of the largest (1)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and docs/growth; all sections if none is named")
    options = parser.parse_args()
    if options.curve and not options.growth:
        parser.error("--curve is a part of --growth")
    return options


def main():
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    allow_files()
    etcd = shutil.which(os.environ.get("ETCD_BIN", "etcd"))
    cairn = os.environ.get("CAIRN_TEST_BIN") or os.path.join(target_folder(), "release/cairn")
    floor = os.environ.get("FLOOR_BIN") or os.path.join(target_folder(), "release/floor")
    programs = {"etcd": etcd, "cairn": cairn, "floor": floor}
    names = options.section or (list(SECTIONS) if options.write and not options.growth else [])
    names = list(SECTIONS) if "all" in names else names
    if "profile" in names and not shutil.which("perf"):
        sys.exit("bench.sh: perf is missing for the section profile (Debian: linux-perf)")
    with tempfile.TemporaryDirectory(prefix="cairn-bench-") as folder:
        sections = Sections(options, Bench(cairn, options.seconds or RUN_SECONDS), programs, folder)
        for name in names:
            heading, measure = SECTIONS[name]
            finish(options, name, f"## {heading}\n\n{measure(sections)}\n{conditions(options.seconds or RUN_SECONDS, options.rounds)}")
        for curve in CURVES if options.growth else ():
            if curve in (options.curve or CURVES):
                finish(options, f"growth-{curve}", grow(options, sections, curve))
        if not names and not options.growth:
            print(sections.requests(options.members, options.tls, options.auth))


def grow(options, sections, curve):
    begun = time.monotonic()
    folder = PLOTS if options.write else tempfile.mkdtemp(prefix="cairn-growth-")
    os.makedirs(folder, exist_ok=True)
    part = f"## How it grows with {curve}\n\nOne short run for each point.\n"
    seconds = options.seconds or GROWTH_SECONDS
    for name, title, x_label, y_label, lines in CURVES[curve](Growth(sections, seconds, options.scale)):
        with open(f"{folder}/{name}.svg", "w") as file:
            file.write(svg(title, x_label, y_label, lines))
        sizes = sorted({x for points in lines.values() for x, _ in points})
        rows = [[f"{size:,}", *(number(dict(points).get(size)) for points in lines.values())] for size in sizes]
        part += f"\n### {title}, by {x_label}\n\n![{title}](growth/{name}.svg)\n\n"
        part += f"In {y_label}:\n\n" + table([x_label.partition(",")[0], *lines], rows)
        print(f"{time.monotonic() - begun:.0f} s: {folder}/{name}.svg", flush=True)
    return part + "\n" + conditions(seconds, 1)


def conditions(seconds, rounds):
    today = datetime.date.today().isoformat()
    return f"_{today}; {describe_machine()}; runs of {seconds:g} s, rounds: {rounds}._\n"


def finish(options, name, part):
    print(part, flush=True)
    if not options.write:
        return
    text = open(DOCUMENT).read() if os.path.exists(DOCUMENT) else HEAD
    with open(DOCUMENT, "w") as file:
        file.write(replace_part(text, name, part))


def allow_files():
    """Raises the limit of open files for all that is started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else max(hard, FILES_WANTED)
    for limit in (wanted, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return
        except (ValueError, OSError):
            # Only root may raise the upper end; then the old one must do.
            continue


def target_folder():
    return os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))


main()
