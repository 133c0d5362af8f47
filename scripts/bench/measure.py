"""One run of `cairn bench`, and what is made of several.

Owns: the command line of the load, medians. Never knows: how servers are started, how results are shown.
"""

import json
import statistics
import subprocess
import sys


class Bench:
    """Puts load on clusters with the program `cairn`."""

    def __init__(self, cairn, seconds):
        self.cairn, self.seconds = cairn, seconds

    def run(self, cluster, load, *flags):
        """What one run has measured. Flags of one's own end the run; without one it takes `seconds`."""
        words = [self.cairn, "bench", load, *map(str, flags), *cluster.flags_of_clients()]
        if "--requests" not in flags and "--duration" not in flags:
            # First logins and buffers that grow are not what is compared.
            words += ["--duration", f"{int(self.seconds * 1000)}ms", "--warmup", f"{int(self.seconds * 100)}ms"]
        done = subprocess.run([*words, "--output", "json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
        result = json.loads(done.stdout)
        if result["first_trouble"]:
            failed = result["requests"]["sent"] - result["requests"]["good"]
            print(f"{cluster.kind} {load}: {failed} failed, first: {result['first_trouble']}", file=sys.stderr)
        return result


def median(results, *path):
    """The median of one number of several results; `None` where it is missing."""
    values = []
    for result in results:
        for name in path:
            result = result and result[name]
        values.append(result)
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def alternate(rounds, kinds, one):
    """Calls `one(kind)` for each kind in turn, `rounds` times; the results by kind."""
    results = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            results[kind].append(one(kind))
    return results
