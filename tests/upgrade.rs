//! A new version on three machines, one after the other, while clients write: the commands of `docs/operations/systemd.md`.
//!
//! Needs what `tests/packaging.rs` needs.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use support::debian::{Debian, packages, skipped, wait_until};
use support::docker::{Engine, output, said, text};
use support::http::{self, Request};
use support::page::block;

/// Under which name the page leaves its block to this test.
const FILE: &str = "tests/upgrade.rs";

/// The versions before and after; the page names the second.
const VERSIONS: [&str; 2] = ["0.1.0-1", "0.2.0-1"];

/// What the upgrade of all three may take.
const UPGRADE_MAX: Duration = Duration::from_secs(120);

/// How long a writer may have to try until a write is acknowledged: an election, and a member that is started.
const GAP_MAX: Duration = Duration::from_secs(10);

/// A member that does not answer in this time is not waited for.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// As many clients write at once.
const WRITERS: usize = 4;

/// Machines `a`, `b` and `c`, each with a member of one cluster.
struct Machines {
    all: Vec<Debian>,
}

impl Machines {
    fn start(engine: &Engine, packages: &Path) -> Self {
        let all = Debian::start_some(engine, packages, 3);
        for (machine, name) in all.iter().zip(["a", "b", "c"]) {
            let founders = "a=http://a:2380,b=http://b:2380,c=http://c:2380";
            machine.put(
                "/etc/default/etcd",
                &format!(
                    "ETCD_NAME={name}\nETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379\n\
                     ETCD_ADVERTISE_CLIENT_URLS=http://{name}:2379\nETCD_LISTEN_PEER_URLS=http://0.0.0.0:2380\n\
                     ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{name}:2380\nETCD_INITIAL_CLUSTER={founders}\n"
                ),
            );
        }
        Self { all }
    }

    /// The members wait for each other, so all are installed at once.
    fn install(&self, package: &Path) {
        thread::scope(|scope| {
            for machine in &self.all {
                scope.spawn(|| machine.install(package));
            }
        });
        wait_until("all are well", || self.is_healthy());
    }

    fn is_healthy(&self) -> bool {
        self.all.iter().all(|machine| machine.run("etcdctl cluster-health").status.success())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let address = |machine: &Debian| {
            let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
            let ip = said(&["inspect", "-f", format, machine.container()]);
            SocketAddr::new(ip.parse().expect("an address"), 2379)
        };
        self.all.iter().map(address).collect()
    }

    fn versions(&self) -> Vec<String> {
        let version = |machine: &Debian| machine.said("dpkg-query -W -f '${Version}' cairn");
        self.all.iter().map(version).collect()
    }

    /// Runs the page's commands in the folder with the packages. `scp` and `ssh` lead into the containers; before each step the
    /// cluster must be well as all three see it.
    fn follow_the_page(&self, folder: &Path) {
        let commands = block("docs/operations/systemd.md", FILE, "rolling");
        let names: Vec<_> = self.all.iter().map(Debian::container).collect();
        let prefix = names[0].strip_suffix("-a").expect("the first is called a");
        let script = format!(
            "set -euo pipefail
             inside() {{ docker exec -w /root -e DEBIAN_FRONTEND=noninteractive {prefix}-\"$@\"; }}
             scp() {{
               for name in a b c; do inside $name etcdctl cluster-health; done
               docker cp \"$1\" {prefix}-\"$2\"/root/
             }}
             ssh() {{ local name=$1; shift; inside \"$name\" sh -c \"$*\"; }}
             {commands}"
        );
        let mut command = Command::new("bash");
        let done = output(command.args(["-c", &script]).current_dir(folder));
        let said = format!("{}\n{}", text(&done.stdout), text(&done.stderr));
        assert!(done.status.success(), "{said}");
        // `|| break` of a loop hides what failed.
        assert_eq!(self.versions(), [VERSIONS[1]; 3], "{said}");
    }
}

/// What a client that writes all the time has seen.
#[derive(Default)]
struct Written {
    /// The index under which each acknowledged key was written.
    acknowledged: BTreeMap<String, u64>,
    refused: usize,
    gap: Duration,
}

/// Writes one key after the other, each until it is acknowledged, at the next member when one does not take it.
fn write(writer: usize, members: &[SocketAddr], stop: &AtomicBool, total: &AtomicU64) -> Written {
    let mut written = Written::default();
    let (mut member, mut last) = (writer, Instant::now());
    for n in 0.. {
        let key = format!("/w/{writer}/{n}");
        loop {
            let request = Request::new("PUT", format!("/v2/keys{key}")).form(format!("value={n}"));
            let reply = http::ask_within(members[member % members.len()], &request, ANSWER_MAX);
            match reply {
                // 200 where an attempt whose answer was lost has done it.
                Ok(reply) if matches!(reply.status(), 200 | 201) => {
                    let index = reply.index().expect("it names its index");
                    written.acknowledged.insert(key, index);
                    break;
                }
                Ok(_) | Err(_) => {
                    written.refused += 1;
                    member += 1;
                }
            }
            assert!(last.elapsed() < GAP_MAX, "{key} is not taken by anybody");
        }
        written.gap = written.gap.max(last.elapsed());
        last = Instant::now();
        total.fetch_add(1, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    written
}

/// All acknowledged writes are at this member, as they were written.
fn assert_holds(member: SocketAddr, written: &[Written]) {
    // Whatever the cluster has acknowledged is in what this member shows from now on.
    let barrier = http::ask(member, &Request::get("/v2/keys/w?quorum=true")).expect("an answer");
    assert_eq!(barrier.status(), 200);
    let all = http::ask(member, &Request::get("/v2/keys/w?recursive=true")).expect("an answer");
    let all: serde_json::Value = serde_json::from_str(&all.text()).expect("it is JSON");
    let mut held = BTreeMap::new();
    for writer in all["node"]["nodes"].as_array().expect("a list") {
        for node in writer["nodes"].as_array().expect("a list") {
            let key = node["key"].as_str().expect("a key").to_owned();
            held.insert(key, (node["value"].clone(), node["modifiedIndex"].as_u64()));
        }
    }
    for (key, index) in written.iter().flat_map(|written| &written.acknowledged) {
        let (value, modified) = held.get(key).unwrap_or_else(|| panic!("{member} lost {key}"));
        assert_eq!(value, key.rsplit('/').next().expect("a number"), "{key} at {member}");
        assert!(*modified >= Some(*index), "{key} at {member}: {modified:?}, written as {index}");
    }
}

#[test]
fn three_machines_are_upgraded_one_by_one_and_no_write_is_lost() {
    let Some(engine) = Engine::start() else { return };
    if skipped() {
        return;
    }
    let (folder, [old, new]) = packages(VERSIONS);
    // The page names a file; the architecture may be another one here.
    let named = folder.path().join(format!("cairn_{}_amd64.deb", VERSIONS[1]));
    if new != named {
        fs::copy(&new, &named).expect("a copy");
    }
    let machines = Machines::start(&engine, folder.path());
    machines.install(&old);
    assert_eq!(machines.versions(), [VERSIONS[0]; 3]);
    let members = machines.addresses();
    let pids = |machines: &Machines| -> Vec<_> {
        machines.all.iter().map(|machine| machine.shows("MainPID")).collect()
    };
    let before = pids(&machines);

    let (stop, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let wait_for_writes = |more: u64| {
        let goal = total.load(Ordering::Relaxed) + more;
        wait_until("clients write", || total.load(Ordering::Relaxed) >= goal);
    };
    let (written, took) = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (members, stop, total) = (&members, &stop, &total);
                scope.spawn(move || write(writer, members, stop, total))
            })
            .collect();
        wait_for_writes(100);
        let begun = Instant::now();
        // Writers end also when this fails.
        let followed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            machines.follow_the_page(folder.path());
        }));
        let took = begun.elapsed();
        if followed.is_ok() {
            wait_for_writes(100);
        }
        stop.store(true, Ordering::Relaxed);
        let written: Vec<_> =
            writers.into_iter().map(|writer| writer.join().expect("it writes")).collect();
        if let Err(why) = followed {
            std::panic::resume_unwind(why);
        }
        (written, took)
    });
    assert!(took < UPGRADE_MAX, "{took:?}");
    for (before, after) in before.iter().zip(pids(&machines)) {
        assert_ne!(*before, after, "the new program runs on each machine");
    }
    assert!(machines.is_healthy());
    let gap = written.iter().map(|written| written.gap).max().unwrap_or_default();
    let refused: usize = written.iter().map(|written| written.refused).sum();
    let count: usize = written.iter().map(|written| written.acknowledged.len()).sum();
    eprintln!(
        "three machines in {took:?}: {count} writes, {refused} tried again elsewhere, none waited longer than {gap:?}"
    );
    for member in &members {
        assert_holds(*member, &written);
    }

    // And back, on one of them.
    let old = old.file_name().expect("it is a file").to_string_lossy();
    machines.all[0].said(&format!(
        "cp /new/{old} /root && cd /root && DEBIAN_FRONTEND=noninteractive apt-get install -y --allow-downgrades ./{old}"
    ));
    assert_eq!(machines.versions()[0], VERSIONS[0]);
    wait_until("all are well", || machines.is_healthy());
    assert_holds(members[0], &written);
}
