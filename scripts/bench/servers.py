"""Clusters of etcd or cairn on this machine, and the floor beside them: started, awaited, killed, started again.

Owns: processes, ports, data directories. Never knows: what load they get.
"""

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

START_S = 120
PASSWORD = "password"
UNCHECKED = ssl._create_unverified_context()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Floor:
    """The server of benches/floor, which does the least: like a `Cluster` of one."""

    kind = "floor"

    def __init__(self, program, folder):
        self.urls = [f"http://127.0.0.1:{free_port()}"]
        self.program, self.folder = program, folder

    def __enter__(self):
        os.makedirs(self.folder)
        address = self.urls[0].partition("://")[2]
        self.process = subprocess.Popen([self.program, address, f"{self.folder}/log"])
        self.pids = [self.process.pid]
        deadline = time.monotonic() + START_S
        while ask("GET", self.urls[0] + "/v2/keys/")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("the floor did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        subprocess.run(["rm", "-rf", self.folder], check=True)

    def flags_of_clients(self):
        return ["--endpoints", self.urls[0], "--pid", str(self.pids[0])]


class Cluster:
    """Members of one kind, `etcd` or `cairn`, with data below `folder`."""

    def __init__(self, kind, program, folder, members=1, pki=None, auth=False, flags=()):
        self.kind, self.program, self.folder = kind, program, folder
        self.pki, self.auth, self.flags = pki, auth, list(flags)
        scheme = "https" if pki else "http"
        self.urls = [f"{scheme}://127.0.0.1:{free_port()}" for _ in range(members)]
        self.peers = [f"http://127.0.0.1:{free_port()}" for _ in range(members)]
        self.processes = [None] * members
        os.makedirs(folder, exist_ok=True)

    def __enter__(self):
        try:
            for number in range(len(self.urls)):
                self.start(number)
            self.wait()
            if self.auth:
                self.switch_auth_on()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, number):
        founders = ",".join(f"m{n}={url}" for n, url in enumerate(self.peers))
        client, peer = self.urls[number], self.peers[number]
        words = [self.program, "--name", f"m{number}", "--data-dir", f"{self.folder}/m{number}"]
        words += ["--listen-client-urls", client, "--advertise-client-urls", client]
        words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        words += ["--initial-cluster", founders, *self.flags]
        if self.kind == "etcd":
            words.append("--enable-v2")
        if self.pki:
            words += ["--cert-file", self.pki.cert, "--key-file", self.pki.key]
        log = open(f"{self.folder}/m{number}.log", "ab")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "CAIRN_"))}
        self.processes[number] = subprocess.Popen(words, stdout=log, stderr=log, env=clean)

    def wait(self):
        """Waits until every member is in the cluster and reads through it."""
        for number, url in enumerate(self.urls):
            deadline = time.monotonic() + START_S
            while not self.serves(url):
                if self.processes[number].poll() is not None or time.monotonic() > deadline:
                    tail = open(f"{self.folder}/m{number}.log").read()[-2000:]
                    raise RuntimeError(f"{self.kind} did not start:\n{tail}")
                time.sleep(0.005)

    def serves(self, url):
        status, _ = self.ask("GET", url + "/v2/keys/?quorum=true&_=1")
        return status in (200, 401)

    def ask(self, method, url, body=None, signed=False):
        return ask(method, url, body, signed)

    def headers(self, url):
        """Status and headers of a GET; status 0 when there is no answer."""
        try:
            with urllib.request.urlopen(url, timeout=10, context=UNCHECKED) as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.headers
        except OSError:
            return 0, {}

    def switch_auth_on(self):
        """Root has a password, and guests may do nothing."""
        url = self.urls[0] + "/v2/auth"
        root = json.dumps({"user": "root", "password": PASSWORD})
        for method, path, body, signed in [
            ("PUT", "/users/root", root, False),
            ("PUT", "/enable", None, False),
            ("DELETE", "/roles/guest", None, True),
        ]:
            status, said = self.ask(method, url + path, body, signed)
            if status not in (200, 201):
                raise RuntimeError(f"{self.kind}: {method} {path}: {status} {said[:200]}")

    @property
    def pids(self):
        return [process.pid for process in self.processes]

    def flags_of_clients(self):
        """What `cairn bench` is told to reach all members and to measure them."""
        words = ["--endpoints", ",".join(self.urls), "--pid", ",".join(map(str, self.pids))]
        words += ["--cacert", self.pki.ca] if self.pki else []
        return words + (["--user", f"root:{PASSWORD}"] if self.auth else [])

    def resident_mib(self):
        """The largest member's memory."""
        return max(resident_mib(pid) for pid in self.pids)

    def processor_s(self):
        """Seconds of processor time that all members have taken so far."""
        return sum(processor_s(pid) for pid in self.pids)

    def restart_after_kill(self):
        """Kills all members and starts them again; seconds until the first quorum read."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        begun = time.monotonic()
        for number in range(len(self.urls)):
            self.start(number)
        self.wait()
        return time.monotonic() - begun

    def stop(self):
        for process in self.processes:
            if process and process.poll() is None:
                process.send_signal(signal.SIGKILL)
        for process in self.processes:
            if process:
                process.wait()
        subprocess.run(["rm", "-rf", self.folder], check=True)


def ask(method, url, body=None, signed=False):
    """Status and body; status 0 when there is no answer."""
    request = urllib.request.Request(url, method=method, data=body and body.encode())
    if body and body.startswith("{"):
        request.add_header("Content-Type", "application/json")
    if signed:
        word = base64.b64encode(f"root:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", "Basic " + word)
    try:
        with urllib.request.urlopen(request, timeout=10, context=UNCHECKED) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def processor_s(pid):
    """Its own time and the system's for it."""
    with open(f"/proc/{pid}/stat") as stat:
        # The name of the program is in brackets and may have any in it.
        behind = stat.read().rpartition(")")[2].split()
    return (int(behind[11]) + int(behind[12])) / os.sysconf("SC_CLK_TCK")


class Pki:
    """An authority and a certificate of it for 127.0.0.1 (ECDSA P-256), the same for all servers."""

    def __init__(self, folder):
        self.folder = folder
        self.ca, self.cert, self.key = (f"{folder}/{name}" for name in ("ca.pem", "cert.pem", "key.pem"))
        new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout"
        self.openssl(f"req -x509 -days 2 -subj /CN=bench-ca {new_key} ca.key -out ca.pem")
        self.openssl(f"req -subj /CN=bench {new_key} key.pem -out request.pem")
        with open(f"{folder}/names", "w") as names:
            names.write("subjectAltName=IP:127.0.0.1\n")
        signed = "-CA ca.pem -CAkey ca.key -set_serial 1 -extfile names"
        self.openssl(f"x509 -req -days 2 -in request.pem {signed} -out cert.pem")
        os.chmod(self.key, 0o600)

    def openssl(self, words):
        subprocess.run(["openssl", *words.split()], cwd=self.folder, check=True, stderr=subprocess.DEVNULL)
