//! The image, and three containers of it on a private network.
//!
//! Needs a Docker engine; without one the test fails, unless `CAIRN_SKIP_DOCKER=1`. No registry is asked. The image is made by the
//! Dockerfile, with a static program that is built beside it (`tests/support/static-program.sh`): a build in a container could use
//! nothing of what the tests have compiled, and takes five times as long. `CAIRN_DOCKER_FROM_SOURCE=1` has it built in the container, by
//! this machine's own toolchain (`tests/support/docker-builder.sh`), and `CAIRN_DOCKER_RELEASE=1` as for a release;
//! `CAIRN_DOCKER_BUILD_IMAGE` names an image to build in. `CAIRN_TEST_IMAGE` names one that is there already, which is then tested as it is.
//!
//! One test, because the image is built only once and test runners give each test a process of its own.

#[path = "../support/mod.rs"]
mod support;

mod same;
mod session;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use std::{env, thread};

use serde_json::Value;
use support::docker::{Engine, ROOT, docker, output, said, text};
use support::http::{self, Reply, Request};

/// How long anything but a build may take; the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// A member that does not answer in this time is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(10);

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(POLL);
    }
}

/// The engine, and the image under test.
struct Run {
    engine: Engine,
    name: String,
    image: String,
}

impl Run {
    /// `None` where there is no engine and that was said.
    fn start() -> Option<Self> {
        let engine = Engine::start()?;
        let name = engine.name.clone();
        let image = env::var("CAIRN_TEST_IMAGE").unwrap_or_else(|_| name.clone());
        Some(Self { engine, name, image })
    }

    fn label(&self) -> String {
        self.engine.label()
    }

    /// Builds the image as a user would, in a folder of its own.
    fn build(&self) {
        if self.image != self.name {
            return;
        }
        let begun = Instant::now();
        let builder = env::var("CAIRN_DOCKER_BUILD_IMAGE").unwrap_or_else(|_| self.make_builder());
        let (argument, label) = (format!("BUILD_IMAGE={builder}"), self.label());
        let common = ["build", "--build-arg", &argument, "--label", &label];
        // The first stage gets a name, so that it can be removed again.
        let stage = format!("{}-stage", self.name);
        said(&[&common[..], &["--target", "build", "-t", &stage, ROOT]].concat());
        said(&[&common[..], &["-t", &self.image, ROOT]].concat());
        let size = said(&["image", "inspect", "-f", "{{.Size}}", &self.image]);
        eprintln!("built in {:?}: {size} bytes", begun.elapsed());
    }

    fn make_builder(&self) -> String {
        let begun = Instant::now();
        let tag = format!("{}-builder", self.name);
        let said = ["CAIRN_DOCKER_FROM_SOURCE", "CAIRN_DOCKER_RELEASE"];
        let from_source = said.iter().any(|name| env::var_os(name).is_some_and(|v| v == "1"));
        let mut command = Command::new(format!("{ROOT}/tests/support/docker-builder.sh"));
        command.args([&tag, &self.label()]);
        if !from_source {
            let script = format!("{ROOT}/tests/support/static-program.sh");
            let built = output(&mut Command::new(script));
            assert!(built.status.success(), "no static program: {}", text(&built.stderr));
            eprintln!("static program: {:?}", begun.elapsed());
            command.arg(text(&built.stdout));
        }
        let made = output(&mut command);
        assert!(made.status.success(), "no image to build in: {}", text(&made.stderr));
        eprintln!("image to build in: {:?}", begun.elapsed());
        tag
    }

    fn make_network(&self) {
        said(&["network", "create", "--label", &self.label(), &self.name]);
    }

    /// The line of a user's notes with our image, on a network where names take the place of addresses. `words` stand between
    /// the image and the flags.
    fn member(&self, name: &str, words: &[&str], founders: &str) -> Member {
        let container = format!("{}-{name}", self.name);
        let label = self.label();
        let url = |port: u16| format!("http://{container}:{port}");
        let (client, peer) = (url(2379), url(2380));
        let run = ["run", "--restart=unless-stopped", "-d", "--label", &label];
        let place = ["--network", &self.name, "--name", &container];
        // As the image has it, only sooner.
        let health = ["--health-interval=1s", "--health-retries=2"];
        let flags = [
            ["-name", &container],
            ["-advertise-client-urls", &client],
            ["-listen-client-urls", "http://0.0.0.0:2379"],
            ["-initial-advertise-peer-urls", &peer],
            ["-listen-peer-urls", "http://0.0.0.0:2380"],
            ["-initial-cluster-token", "etcd-cluster-1"],
            ["-initial-cluster", founders],
            ["-initial-cluster-state", "new"],
        ];
        let image = [self.image.as_str()];
        said(&[&run[..], &place, &health, &image, words, &flags.concat()].concat());
        Member { container }
    }
}

/// A container with a member.
struct Member {
    container: String,
}

impl Member {
    fn inspect(&self, format: &str) -> String {
        said(&["inspect", "-f", format, &self.container])
    }

    /// Where it is now; `None` while it is on no network.
    fn address(&self) -> Option<SocketAddr> {
        let ip = self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
        Some(SocketAddr::new(ip.parse().ok()?, 2379))
    }

    /// `None` when there is no answer.
    fn try_ask(&self, method: &str, target: &str) -> Option<Reply> {
        http::ask_within(self.address()?, &Request::new(method, target), ANSWER_MAX).ok()
    }

    fn ask(&self, method: &str, target: &str) -> Reply {
        let reply = self.try_ask(method, target);
        reply.unwrap_or_else(|| panic!("{}: no answer to {method} {target}", self.container))
    }

    fn write(&self, key: &str, value: &str) {
        let reply = self.ask("PUT", &format!("/v2/keys/{key}?value={value}"));
        assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
    }

    /// What this member itself knows.
    fn holds(&self, key: &str, value: &str) -> bool {
        let reply = self.try_ask("GET", &format!("/v2/keys/{key}"));
        let body = reply.and_then(|reply| serde_json::from_str::<Value>(&reply.text()).ok());
        body.is_some_and(|body| body["node"]["value"] == value)
    }

    fn leads(&self) -> bool {
        let reply = self.try_ask("GET", "/v2/stats/self");
        reply.is_some_and(|reply| reply.text().contains("\"state\":\"StateLeader\""))
    }

    fn exec(&self, words: &[&str]) -> Output {
        docker(&[&["exec", &self.container][..], words].concat())
    }

    /// What Docker's own check says.
    fn wait_for_health(&self, status: &str) {
        wait_until(&format!("{} is {status}", self.container), || {
            self.inspect("{{.State.Health.Status}}") == status
        });
    }

    /// Its exit code.
    fn stop(&self) -> String {
        said(&["stop", &self.container]);
        self.inspect("{{.State.ExitCode}}")
    }
}

/// Waits for a leader and takes it out.
fn split(members: &[Member]) -> (&Member, [&Member; 2]) {
    let mut leader = None;
    wait_until("a leader", || {
        leader = members.iter().position(Member::leads);
        leader.is_some()
    });
    let leader = leader.expect("it was awaited");
    (&members[leader], [&members[(leader + 1) % 3], &members[(leader + 2) % 3]])
}

#[test]
fn three_containers_of_the_image_are_a_cluster() {
    let Some(run) = Run::start() else { return };
    run.build();
    run.make_network();
    let names = ["a", "b", "c"].map(|name| format!("{}-{name}", run.name));
    let founders = names.each_ref().map(|name| format!("{name}=http://{name}:2380")).join(",");
    let members = [
        run.member("a", &["etcd"], &founders),
        run.member("b", &[], &founders),
        run.member("c", &["/usr/local/bin/etcd"], &founders),
    ];
    they_found_a_cluster(&members);
    programs_are_found_without_a_shell(&run, &members[0]);
    data_is_for_the_member_alone(&members[0]);
    one_is_stopped(&members);
    one_is_cut_off(&run, &members);
    for member in &members {
        assert_eq!(member.stop(), "0", "{}", member.container);
    }
    compose_starts_three(&run);
    session::plays(&run);
}

fn they_found_a_cluster(members: &[Member]) {
    for member in members {
        wait_until("all three are members", || {
            let reply = member.try_ask("GET", "/v2/members").map(|reply| reply.text());
            reply.is_some_and(|text| members.iter().all(|m| text.contains(&m.container)))
        });
    }
    let [a, b, c] = members else { unreachable!("three are started") };
    a.write("message", "hello");
    let reply = b.ask("GET", "/v2/keys/message?quorum=true");
    assert!(reply.text().contains("\"value\":\"hello\""), "{}", reply.text());
    wait_until("a write arrives", || c.holds("message", "hello"));
    members.iter().for_each(|member| member.wait_for_health("healthy"));
}

fn programs_are_found_without_a_shell(run: &Run, member: &Member) {
    for words in
        [&["cairn", "health"][..], &["etcd", "health"], &["/usr/local/bin/cairn", "health"]]
    {
        let health = member.exec(words);
        assert_eq!(text(&health.stdout), "{\"health\":\"true\"}", "{health:?}");
    }
    let version =
        docker(&["run", "--rm", "--label", &run.label(), &run.image, "etcd", "--version"]);
    assert!(text(&version.stdout).starts_with("etcd Version: "), "{version:?}");
    let listed = member.exec(&["etcdctl", "ls", "--sort"]);
    assert_eq!(text(&listed.stdout), "/message", "{listed:?}");
    // As in a user's notes: from a container of its own, with an endpoint at which nobody is.
    let endpoints = format!("http://{}:2379,http://127.0.0.1:1", member.container);
    let list = ["etcdctl", "-C", &endpoints, "member", "list"];
    let run = ["run", "--rm", "--network", &run.name, "--label", &run.label(), &run.image];
    let listed = docker(&[&run[..], &list].concat());
    assert_eq!(text(&listed.stdout).matches(" isLeader=").count(), 3, "{listed:?}");
    assert!(!member.exec(&["sh", "-c", "true"]).status.success(), "there is a shell");
}

/// The directory is the first entry of the archive that Docker makes of it.
fn data_is_for_the_member_alone(member: &Member) {
    let data = format!("{0}:/var/lib/cairn/{0}.cairn", member.container);
    let archive = docker(&["cp", &data, "-"]).stdout;
    let mode = archive.get(100..107).map(text).unwrap_or_default();
    assert!(mode.ends_with("0700"), "the data directory has the mode {mode}");
}

fn one_is_stopped(members: &[Member]) {
    let (leader, others) = split(members);
    assert_eq!(leader.stop(), "0");
    others[0].write("message", "of-two");
    assert!(others.iter().any(|other| other.leads()), "no other member has taken over at once");
    said(&["start", &leader.container]);
    wait_until("the one that was stopped has caught up", || leader.holds("message", "of-two"));
}

fn one_is_cut_off(run: &Run, members: &[Member]) {
    let (leader, others) = split(members);
    said(&["network", "disconnect", &run.name, &leader.container]);
    wait_until("the other two go on", || {
        let reply = others[0].try_ask("PUT", "/v2/keys/message?value=without-it");
        reply.is_some_and(|reply| reply.status() == 200)
    });
    leader.wait_for_health("unhealthy");
    let health = leader.exec(&["cairn", "health"]);
    assert_eq!(health.status.code(), Some(1), "{health:?}");
    assert!(text(&health.stderr).ends_with("says 503: {\"health\":\"false\"}"), "{health:?}");
    others.iter().for_each(|other| other.wait_for_health("healthy"));
    said(&["network", "connect", &run.name, &leader.container]);
    wait_until("the one that was cut off has caught up", || leader.holds("message", "without-it"));
    leader.wait_for_health("healthy");
}

/// The compose file, with our image and on ports that the system chooses.
fn compose_starts_three(run: &Run) {
    if env::var_os("CAIRN_SKIP_COMPOSE").is_some_and(|v| v == "1") {
        eprintln!("skipped: no docker-compose (CAIRN_SKIP_COMPOSE=1)");
        return;
    }
    let compose = |args: &[&str]| {
        let mut command = match docker(&["compose", "version"]).status.success() {
            true => Command::new("docker"),
            false => Command::new("docker-compose"),
        };
        if command.get_program() == "docker" {
            command.arg("compose");
        }
        command.current_dir(ROOT).args(["-p", &run.name]).args(args);
        command.env("CAIRN_IMAGE", &run.image);
        command.envs(["CAIRN_PORT1", "CAIRN_PORT2", "CAIRN_PORT3"].map(|port| (port, "0")));
        let output = output(&mut command);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    compose(&["up", "-d", "--no-build"]);
    let ask = |member: &str, method: &str, target: &str| {
        let address = compose(&["port", member, "2379"]).parse().expect("an address");
        http::ask_within(address, &Request::new(method, target), ANSWER_MAX).ok()
    };
    for member in ["cairn1", "cairn2", "cairn3"] {
        wait_until("a member is healthy", || {
            ask(member, "GET", "/health").is_some_and(|reply| reply.status() == 200)
        });
    }
    let written = ask("cairn1", "PUT", "/v2/keys/message?value=hello").expect("an answer");
    assert_eq!(written.status(), 201, "{}", written.text());
    let read = ask("cairn3", "GET", "/v2/keys/message?quorum=true").expect("an answer");
    assert!(read.text().contains("\"value\":\"hello\""), "{}", read.text());
    compose(&["down", "-v"]);
}
