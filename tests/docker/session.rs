//! `docs/session.md`: what people type against three containers of the image, and what is printed.
//!
//! The page is its own script. Blocks of the language `text` hold commands behind `$ `, and what they print; marks in front of a block,
//! which readers do not see, say how it is played:
//!
//! ```text
//! <!-- on NODE -->       typed there, where that node's member is reached at 127.0.0.1; otherwise on node1
//! <!-- lines: N -->      the first command waits; those behind `elsewhere$ ` are typed then; so many lines come; `^C` ends it
//! <!-- numbers -->       numbers are measured
//! <!-- leads: NODE -->    a step: that one leads from here on, and the first time indexes are counted from here
//! <!-- healthy: N -->    a step: the cluster of node1 has so many members, and all that run are well
//! ```

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::same::{Member, Same};
use crate::support::docker::{ROOT, docker, output, said, text};
use crate::support::http::{self, Request};
use crate::{ANSWER_MAX, Run, wait_until};

/// Name and last part of the address of each machine.
const NODES: [(&str, u8); 5] =
    [("node1", 28), ("node2", 29), ("node3", 30), ("node4", 31), ("node5", 32)];

/// Seconds that the commands of a block may take.
const TYPED_MAX: u32 = 60;

/// In the place of `docker` and `podman`: on each machine a container may be called `etcd`, and the image is ours. There is no
/// terminal, and clients reach a container at its own address instead of a port of the machine.
const DOCKER: &str = r#"#!/bin/bash
set -eu
sub=$1; shift
words=()
named=
case $sub in
run)
  while [ "$1" != coreos/etcd ]; do
    case $1 in
    -it) words+=(-i) ;;
    -p) shift ;;
    -v) [ ! -e "${2%%:*}" ] || words+=(-v "$2"); shift ;;
    --name) words+=(--name "$RUN-$NODE-$2" --ip "$ADDRESS" --hostname "$NODE"); named=1; shift ;;
    --volumes-from) words+=(--volumes-from "$RUN-$NODE-$2"); shift ;;
    *) words+=("$1") ;;
    esac
    shift
  done
  shift
  exec "$DOCKER" run --label "$LABEL" --network "$NETWORK" "${words[@]}" "$IMAGE" "$@"
  ;;
*)
  while [[ $1 == -* ]]; do
    case $1 in
    -it) words+=(-i) ;;
    -e) words+=(-e "$2"); shift ;;
    *) words+=("$1") ;;
    esac
    shift
  done
  name=$1; shift
  exec "$DOCKER" "$sub" "${words[@]}" "$RUN-$NODE-$name" "$@"
  ;;
esac
"#;

/// People type slower than members hear of a write: waits until all show the same index. Plain reads may be answered by any of them.
const SETTLE: &str = r#"
settle() {
  until [ "$(for member in $MEMBERS; do curl -m 1 -I $member/v2/keys/ 2>/dev/null | grep X-Etcd-Index; done | sort -u | wc -l)" -le 1 ]; do :; done
}"#;

/// The pages of a user's machines.
struct Session<'a> {
    run: &'a Run,
    /// Programs, certificates and files of the machines.
    place: tempfile::TempDir,
    network: String,
    /// What addresses begin with, in the place of `172.16.1.`.
    prefix: String,
    same: Same,
}

/// What stands in front of a block.
#[derive(Default)]
struct Marks {
    node: Option<String>,
    lines: Option<usize>,
    numbers: bool,
}

/// What a block says.
struct Typed {
    /// With its continuations, as it stands on the page.
    shown: String,
    command: String,
    elsewhere: bool,
}

/// Plays the page, and compares it with what is printed now; with `UPDATE=1` it is written anew.
pub(crate) fn plays(run: &Run) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can type commands where 127.0.0.1 is a container's");
        return;
    }
    let path = Path::new(ROOT).join("docs/session.md");
    let recorded = fs::read_to_string(&path).expect("a page");
    let printed = Session::new(run).play(&recorded);
    if env::var_os("UPDATE").is_some_and(|v| v == "1") {
        fs::write(&path, &printed).expect("it is ours");
        return;
    }
    let differs = recorded.lines().zip(printed.lines()).position(|(one, other)| one != other);
    let Some(place) = differs else {
        assert_eq!(recorded.lines().count(), printed.lines().count(), "lines");
        return;
    };
    let around = |text: &str| {
        let lines: Vec<_> = text.lines().skip(place.saturating_sub(5)).take(15).collect();
        lines.join("\n")
    };
    panic!(
        "docs/session.md, line {}, is\n{}\n--- and now\n{}\n--- UPDATE=1 records it",
        place + 1,
        around(&recorded),
        around(&printed)
    );
}

impl<'a> Session<'a> {
    fn new(run: &'a Run) -> Self {
        let place = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let network = format!("{}-session", run.name);
        let prefix = make_network(&network, &run.label());
        let same =
            Same::new(&run.name, &prefix, &place.path().join("bin"), &place.path().join("etc"));
        let this = Self { run, place, network, prefix, same };
        this.make_programs();
        this.make_certificates();
        let mut hosts = format!("127.0.0.1 localhost\n{}28 server\n", this.prefix);
        for (name, last) in NODES {
            let _ = writeln!(hosts, "{}{last} {name}", this.prefix);
        }
        fs::write(this.path("hosts"), hosts).expect("the folder is ours");
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// What a machine has: the tool, which is the image's own program, and Docker.
    fn make_programs(&self) {
        let bin = self.path("bin");
        fs::create_dir(&bin).expect("the folder is ours");
        let container = said(&["create", "--label", &self.run.label(), &self.run.image]);
        let program = bin.join("cairn").display().to_string();
        said(&["cp", &format!("{container}:/usr/local/bin/cairn"), &program]);
        said(&["rm", &container]);
        std::os::unix::fs::symlink("cairn", bin.join("etcdctl")).expect("a link");
        fs::write(bin.join(".curlrc"), "silent\nshow-error\n").expect("a file");
        for (name, script) in
            [("docker", DOCKER), ("podman", DOCKER), ("hostname", "#!/bin/sh\necho $NODE\n")]
        {
            fs::write(bin.join(name), script).expect("a file");
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(bin.join(name), mode).expect("a mode");
        }
    }

    /// Made with openssl, for `node5` and for whoever asks it.
    fn make_certificates(&self) {
        let etc = self.path("etc");
        fs::create_dir(&etc).expect("the folder is ours");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let script = format!(
            "set -e
             openssl req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=authority
             openssl req {key} -keyout peer.key -out peer.csr -subj /CN=peer
             openssl x509 -req -in peer.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out peer.crt \
               -extfile <(printf 'subjectAltName=DNS:node5,IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n')"
        );
        let made = output(Command::new("bash").args(["-c", &script]).current_dir(&etc));
        assert!(made.status.success(), "{}", text(&made.stderr));
    }

    /// The page as it is printed now.
    fn play(mut self, page: &str) -> String {
        let (mut printed, mut marks) = (String::new(), Marks::default());
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            let _ = writeln!(printed, "{line}");
            if let Some(mark) =
                line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"))
            {
                self.mark(mark, &mut marks);
            }
            if line != "```text" {
                continue;
            }
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let marks = std::mem::take(&mut marks);
            let block = match marks.lines {
                None => self.block(&typed(&block), &marks),
                Some(count) => self.waiting(&typed(&block), count, block.contains(&"^C"), &marks),
            };
            // For whoever looks why it goes no further.
            eprintln!("{block}");
            printed.push_str(&block);
            printed.push_str("```\n");
        }
        printed
    }

    fn mark(&mut self, mark: &str, marks: &mut Marks) {
        match mark.split_once(' ') {
            Some(("on", node)) => marks.node = Some(node.to_owned()),
            Some(("lines:", count)) => marks.lines = Some(count.parse().expect("a number")),
            Some(("leads:", node)) => self.make_leader(node),
            Some(("healthy:", count)) => self.wait_for_health(count.parse().expect("a number")),
            None if mark == "numbers" => marks.numbers = true,
            Some(_) | None => panic!("no such mark: {mark}"),
        }
    }

    /// Commands one after the other, in one shell.
    fn block(&mut self, typed: &[Typed], marks: &Marks) -> String {
        let mut script = String::new();
        for typed in typed {
            let command = self.same.executed(&typed.command);
            let _ = writeln!(script, "{command}\nprintf '\\n\\001%s\\n' $?; settle");
        }
        let done = output(self.shell(marks, &script).stdin(Stdio::null()));
        self.same.learn(&self.members(), self.cluster());
        let all = String::from_utf8_lossy(&done.stdout).into_owned();
        let mut pieces = all.split('\u{1}');
        let mut piece = pieces.next().unwrap_or_default().to_owned();
        let mut printed = String::new();
        for typed in typed {
            let next = pieces.next().unwrap_or_else(|| panic!("{} ended the shell", typed.command));
            let (code, rest) = next.split_once('\n').expect("a line");
            let said = piece.strip_suffix('\n').expect("a line").trim_end_matches('\n');
            let _ = writeln!(printed, "{}", typed.shown);
            printed.push_str(&self.same.printed(said, marks.numbers));
            if code != "0" {
                let _ = writeln!(printed, "(exit code {code})");
            }
            rest.clone_into(&mut piece);
        }
        printed
    }

    /// A command that waits, and what is typed elsewhere meanwhile.
    fn waiting(&mut self, typed: &[Typed], count: usize, cut: bool, marks: &Marks) -> String {
        let [first, others @ ..] = typed else { panic!("a block without a command") };
        let before = self.watchers();
        let command = self.same.executed(&first.command);
        let mut child = self
            .shell(marks, &command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let mut stdout = child.stdout.take().expect("it is piped");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(bytes @ 1..) = stdout.read(&mut piece) {
                hears.lock().expect("nobody panics with it").extend_from_slice(&piece[..bytes]);
            }
        });
        let lines = || {
            let heard = heard.lock().expect("nobody panics with it");
            heard.iter().filter(|byte| **byte == b'\n').count()
        };
        // Watches of version 3 are no watchers of version 2; they say that they are there.
        wait_until(&format!("{} waits", first.command), || self.watchers() > before || lines() > 0);
        for other in others {
            let command = self.same.executed(&other.command);
            let done = output(self.shell(&Marks::default(), &command).stdin(Stdio::null()));
            assert!(done.status.success(), "{command}: {}", text(&done.stdout));
            output(self.shell(&Marks::default(), "settle").stdin(Stdio::null()));
        }
        wait_until(&format!("{count} lines of {}", first.command), || lines() >= count);
        if cut {
            let group = Pid::from_child(&child);
            kill_process_group(group, Signal::KILL).expect("it is ours");
        }
        child.wait().expect("it ends");
        reader.join().expect("it reads");
        let said = String::from_utf8_lossy(&heard.lock().expect("it is over")).into_owned();
        self.same.learn(&self.members(), self.cluster());
        let mut printed: String = typed.iter().map(|typed| format!("{}\n", typed.shown)).collect();
        printed.push_str(&self.same.printed(said.trim_end_matches('\n'), marks.numbers));
        if cut {
            printed.push_str("^C\n");
        }
        printed
    }

    /// A shell on a machine: with its container's network, once that is there.
    fn shell(&self, marks: &Marks, script: &str) -> Command {
        let node = marks.node.as_deref().unwrap_or("node1");
        let (_, last) = NODES.iter().find(|(name, _)| *name == node).expect("a machine");
        let inspected = docker(&["inspect", "-f", "{{.State.Pid}}", &self.container(node)]);
        let pid = text(&inspected.stdout);
        let enter = if inspected.status.success() && pid != "0" {
            format!("nsenter --net=/proc/{pid}/ns/net ")
        } else {
            String::new()
        };
        let hosts = self.path("hosts").display().to_string();
        let prepare =
            format!("exec 2>&1; mount --bind {hosts} /etc/hosts; {SETTLE}\neval \"$SCRIPT\"");
        let reached = self.reached();
        let members: Vec<_> = reached.iter().map(|member| format!("http://{member}")).collect();
        let mut command = Command::new("sh");
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD") {
                command.env_remove(&variable);
            }
        }
        let bin = self.path("bin").display().to_string();
        let path = env::var("PATH").unwrap_or_default();
        command
            .args([
                "-c",
                &format!("exec timeout {TYPED_MAX} {enter}unshare --mount bash -c \"$PREPARE\""),
            ])
            .env("PREPARE", prepare)
            .env("SCRIPT", script)
            .env("DOCKER", which_docker())
            .env("PATH", format!("{bin}:{path}"))
            .env("CURL_HOME", &bin)
            .env("RUN", &self.run.name)
            .env("IMAGE", &self.run.image)
            .env("LABEL", self.run.label())
            .env("NETWORK", &self.network)
            .env("MEMBERS", members.join(" "))
            .env("NODE", node)
            .env("ADDRESS", format!("{}{last}", self.prefix));
        if let Some(leader) = self.leader() {
            command.env("LEADER", leader.ip().to_string());
        }
        command
    }

    fn container(&self, node: &str) -> String {
        format!("{}-{node}-etcd", self.run.name)
    }

    /// Where members answer without certificates now.
    fn reached(&self) -> Vec<SocketAddr> {
        // Whoever is not there would be waited for.
        let running = self.running("{{.Names}}");
        let runs = |node: &str| running.iter().any(|name| name.contains(&format!("-{node}-")));
        let nodes = NODES.iter().filter(|(node, _)| runs(node));
        let addresses = nodes.map(|(_, last)| format!("{}{last}:2379", self.prefix));
        let addresses = addresses.map(|address| address.parse().expect("an address"));
        addresses.filter(|address| ask(*address, "/version").is_some()).collect()
    }

    /// The containers that run.
    fn running(&self, format: &str) -> Vec<String> {
        let label = format!("label={}", self.run.label());
        let mine = format!("name=^{}-node", self.run.name);
        let listed = ["ps", "--format", format, "--filter", &label, "--filter", &mine];
        said(&listed).lines().map(str::to_owned).collect()
    }

    fn leader(&self) -> Option<SocketAddr> {
        let leads = |address: &SocketAddr| {
            ask(*address, "/v2/stats/self").is_some_and(|text| text.contains("StateLeader"))
        };
        self.reached().into_iter().find(leads)
    }

    /// Whoever leads is started again, and hands over, until it is this one's turn.
    fn make_leader(&mut self, node: &str) {
        let (_, last) = NODES.iter().find(|(name, _)| *name == node).expect("a machine");
        let wanted = format!("{}{last}", self.prefix);
        wait_until(&format!("{node} leads"), || {
            let Some(leader) = self.leader() else { return false };
            let leader = leader.ip().to_string();
            if leader == wanted {
                return true;
            }
            let leads = |last: &u8| leader == format!("{}{last}", self.prefix);
            let (node, _) = NODES.iter().find(|(_, last)| leads(last)).expect("a machine");
            said(&["restart", &self.container(node)]);
            false
        });
        let cluster = self.cluster().expect("it answers");
        self.same.begin(cluster.1);
    }

    /// Names and ids of the members, as node1's cluster has them. One that was never started has none, and is known by its URL.
    fn members(&self) -> Vec<Member> {
        let text = self.reached().into_iter().find_map(|address| ask(address, "/v2/members"));
        let all = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let all = all.and_then(|all| all["members"].as_array().cloned()).unwrap_or_default();
        let of = |member: &serde_json::Value| {
            let field = |name: &str| member[name].as_str().unwrap_or_default().to_owned();
            let url = member["peerURLs"][0].as_str().unwrap_or_default();
            let at = |last: &u8| url == format!("http://{}{last}:2380", self.prefix);
            let node = NODES.iter().find(|(_, last)| at(last)).map_or("", |(node, _)| *node);
            Member { node: node.to_owned(), name: field("name"), id: field("id") }
        };
        all.iter().map(of).collect()
    }

    /// The id of the cluster, and its present index.
    fn cluster(&self) -> Option<(String, u64)> {
        let address = self.reached().into_iter().next()?;
        let reply = http::ask_within(address, &Request::get("/v2/keys/"), ANSWER_MAX).ok()?;
        Some((reply.get("X-Etcd-Cluster-Id")?, reply.index()?))
    }

    fn watchers(&self) -> u64 {
        let count = |address: SocketAddr| {
            let page = ask(address, "/metrics").unwrap_or_default();
            let line =
                page.lines().find_map(|line| line.strip_prefix("etcd_debugging_store_watchers "));
            line.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
        };
        self.reached().into_iter().map(count).sum()
    }

    /// Waits until the cluster of node1 has so many members that have said who they are, and every container is well.
    fn wait_for_health(&mut self, count: usize) {
        wait_until(&format!("{count} members are well"), || {
            let members = self.members();
            let running = self.running("{{.ID}}");
            let well =
                |container: &str| docker(&["exec", container, "cairn", "health"]).status.success();
            members.len() == count
                && members.iter().all(|member| !member.name.is_empty())
                && running.iter().all(|container| well(container))
        });
        self.same.learn(&self.members(), self.cluster());
    }
}

fn ask(address: SocketAddr, target: &str) -> Option<String> {
    let reply = http::ask_within(address, &Request::get(target), ANSWER_MAX).ok()?;
    (reply.status() == 200).then(|| reply.text())
}

/// The commands of a block; what they printed then is left out.
fn typed(block: &[&str]) -> Vec<Typed> {
    let mut typed: Vec<Typed> = Vec::new();
    let mut continued = false;
    for line in block {
        if let (true, Some(last)) = (continued, typed.last_mut()) {
            let _ = write!(last.shown, "\n{line}");
            let _ = write!(last.command, "\n{line}");
            continued = line.ends_with('\\');
            continue;
        }
        for (begin, elsewhere) in [("$ ", false), ("elsewhere$ ", true)] {
            if let Some(command) = line.strip_prefix(begin) {
                let (shown, command) = ((*line).to_owned(), command.to_owned());
                typed.push(Typed { shown, command, elsewhere });
                continued = line.ends_with('\\');
            }
        }
    }
    assert!(
        typed.iter().skip(1).all(|typed| typed.elsewhere)
            || typed.iter().all(|typed| !typed.elsewhere)
    );
    typed
}

/// Makes a network on which addresses can be chosen, where the engine finds room for one; returns what they begin with.
fn make_network(name: &str, label: &str) -> String {
    said(&["network", "create", "--label", label, name]);
    let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
    let subnet = said(&["network", "inspect", "-f", format, name]);
    said(&["network", "rm", name]);
    said(&["network", "create", "--label", label, "--subnet", &subnet, name]);
    let (address, _) = subnet.split_once('/').expect("an address and a length");
    let (prefix, _) = address.rsplit_once('.').expect("an address of four numbers");
    format!("{prefix}.")
}

/// The program behind the name, where ours stands in front of it.
fn which_docker() -> String {
    let found = output(Command::new("sh").args(["-c", "command -v docker"]));
    text(&found.stdout)
}
