//! What differs from one run of a session to the next, made the same, and back.

use std::collections::BTreeMap;
use std::path::Path;

/// What addresses begin with on the page.
const PREFIX: &str = "172.16.1.";
/// The index at which a session begins on the page, as in a new cluster of three.
const BASE: u64 = 7;
const DATE: &str = "2026-01-01T12:00:00Z";
/// How long something took.
const TOOK: &str = "2.3ms";
/// What a lease is called on the page.
const LEASE: &str = "694d5765fc71500b";
/// The term of the page.
const TERM: u64 = 2;
/// A date and a time take at least so many letters.
const DATE_BYTES: usize = "2026-01-01T12:00:00Z".len();

/// A member as the cluster has it.
pub(crate) struct Member {
    /// The machine.
    pub(crate) node: String,
    /// Empty as long as it was never started.
    pub(crate) name: String,
    pub(crate) id: String,
}

pub(crate) struct Same {
    /// Texts of this run, and what stands for them.
    texts: Vec<(String, String)>,
    prefix: String,
    /// Ids of this run, and what stands for them.
    ids: BTreeMap<String, String>,
    /// How many ids a name has had.
    generations: BTreeMap<String, usize>,
    /// The index at which this session began.
    base: Option<u64>,
}

impl Same {
    pub(crate) fn new(run: &str, prefix: &str, bin: &Path, etc: &Path) -> Self {
        let nodes = (1..=5).map(|node| (format!("{run}-node{node}-"), String::new()));
        let texts = [
            (format!("{}/etcdctl", bin.display()), "/usr/bin/etcdctl".to_owned()),
            (format!("{}/", etc.display()), "/etc/etcd/".to_owned()),
            (prefix.to_owned(), PREFIX.to_owned()),
        ];
        Self {
            texts: texts.into_iter().chain(nodes).collect(),
            prefix: prefix.to_owned(),
            ids: BTreeMap::new(),
            generations: BTreeMap::new(),
            base: None,
        }
    }

    /// From here on indexes are counted.
    pub(crate) fn begin(&mut self, index: u64) {
        self.base = self.base.or(Some(index));
    }

    /// Takes note of the members, and of the cluster's id.
    pub(crate) fn learn(&mut self, members: &[Member], cluster: Option<(String, u64)>) {
        for Member { node, id, .. } in members {
            let number: String = node.chars().filter(char::is_ascii_digit).collect();
            if number.is_empty() || self.ids.contains_key(id) {
                continue;
            }
            let generation = self.generations.entry(node.clone()).or_default();
            let shown = format!("{number}{generation}").repeat(8);
            *generation += 1;
            self.name(id, &shown);
        }
        if let Some((id, _)) = cluster {
            self.name(&id, &"c".repeat(16));
        }
    }

    /// JSON of version 3 has ids as decimal numbers.
    fn name(&mut self, id: &str, shown: &str) {
        let decimal = |id: &str| u64::from_str_radix(id, 16).map(|id| id.to_string());
        if let (Ok(id), Ok(shown)) = (decimal(id), decimal(shown)) {
            self.ids.insert(id, shown);
        }
        self.ids.insert(id.to_owned(), shown.to_owned());
    }

    /// Takes note of a lease that was granted.
    fn learn_lease(&mut self, text: &str) {
        let granted = text.lines().find_map(|line| line.strip_prefix("lease "));
        if let Some((id, _)) = granted.and_then(|rest| rest.split_once(" granted with TTL")) {
            self.ids.insert(id.to_owned(), LEASE.to_owned());
        }
    }

    /// A command of the page as it is executed here.
    pub(crate) fn executed(&self, command: &str) -> String {
        let mut executed = command.to_owned();
        for (ours, shown) in &self.texts {
            if !shown.is_empty() {
                executed = executed.replace(shown, ours);
            }
        }
        for (lease, _) in self.ids.iter().filter(|(_, shown)| *shown == LEASE) {
            executed = executed.replace(LEASE, lease);
        }
        for before in ["waitIndex=", "--after-index "] {
            executed = each_number_behind(&executed, before, |shown| {
                shown - BASE + self.base.unwrap_or(BASE)
            });
        }
        executed
    }

    /// What was printed as it stands on the page; with `numbers`, those that are measured are hidden.
    pub(crate) fn printed(&mut self, text: &str, numbers: bool) -> String {
        self.learn_lease(text);
        let mut text = text.replace('\r', "");
        for (ours, shown) in &self.texts {
            text = text.replace(ours, shown);
        }
        text = self.with_ids(&text);
        text = with_dates(&text);
        let shown = |ours: u64| match self.base {
            Some(base) if ours >= base => ours - base + BASE,
            Some(_) | None => ours,
        };
        for before in ["Index\":", "\"index\":", "Index: ", ") [", "/000000", "waitIndex="] {
            text = each_number_behind(&text, before, shown);
        }
        for before in ["\"ttl\":", "TTL: ", "remaining("] {
            text = each_number_behind(&text, before, |ttl| ttl.div_ceil(10) * 10);
        }
        text = each_number_behind(&text, "\"raft_term\":\"", |_| TERM);
        if numbers {
            text = without_numbers(&text);
        }
        // Of the two default endpoints either may be asked first.
        let lines = text.lines().filter(|line| !line.contains("http://127.0.0.1:4001/"));
        let lines = lines.map(|line| self.line(line)).collect();
        in_order(redrawn(lines)).iter().fold(String::new(), |all, line| all + line + "\n")
    }

    /// Runs of hex digits that are ids.
    fn with_ids(&self, text: &str) -> String {
        let hex = |letter: char| matches!(letter, '0'..='9' | 'a'..='f');
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(hex) {
            let (before, from) = rest.split_at(at);
            let end = from.find(|letter| !hex(letter)).unwrap_or(from.len());
            let (run, behind) = from.split_at(end);
            out.push_str(before);
            match self.ids.get(run) {
                Some(id) => out.push_str(id),
                None if run.len() == 64 => out.push_str("(the id of the container)"),
                None if is_random(run) => out.push_str("(an id)"),
                None => out.push_str(run),
            }
            rest = behind;
        }
        out + rest
    }

    /// A line in which nothing depends on which member was asked, or leads.
    fn line(&self, line: &str) -> String {
        debug_assert!(!line.contains(&self.prefix) || self.prefix == PREFIX);
        let mut line =
            line.replace("isLeader=true", "isLeader=...").replace("isLeader=false", "isLeader=...");
        if line.starts_with("cURL Command:") {
            for last in 29..=31 {
                line = line.replace(&format!("{PREFIX}{last}:"), &format!("{PREFIX}28:"));
            }
        }
        line = followers_in_order(&line);
        for (begin, between, end) in [
            ("got endpoints(", ",", ") after sync"),
            ("start to sync cluster using endpoints(", ",", ")"),
            ("Cluster-Endpoints: ", ", ", ""),
            ("ETCD_INITIAL_CLUSTER=\"", ",", "\""),
        ] {
            if let Some(list) = line.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end)) {
                let mut list: Vec<_> = list.split(between).collect();
                list.sort_unstable();
                line = format!("{begin}{}{end}", list.join(between));
            }
        }
        line
    }
}

/// Lines about members, which come in the order of their ids, in that of their names.
fn in_order(mut lines: Vec<String>) -> Vec<String> {
    let about_member = |line: &String| {
        line.starts_with("member ") || line.contains(": name=") || line.contains(", started, ")
    };
    for run in lines.chunk_by_mut(|one, other| about_member(one) && about_member(other)) {
        if run.len() > 1 {
            run.sort();
        }
    }
    lines
}

/// Tables whose columns are as wide as what stands in them now, with their rows in order. Who was asked first may answer last.
fn redrawn(lines: Vec<String>) -> Vec<String> {
    let in_table = |line: &String| line.starts_with('|') || line.starts_with("+-");
    let mut drawn = Vec::new();
    for run in lines.chunk_by(|one, other| in_table(one) == in_table(other)) {
        if !run.iter().all(in_table) {
            drawn.extend_from_slice(run);
            continue;
        }
        let cells = |line: &String| -> Vec<String> {
            let inside = line.strip_prefix('|').and_then(|rest| rest.strip_suffix('|'));
            inside.unwrap_or_default().split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let mut rows = run.iter().filter(|line| line.starts_with('|')).map(cells);
        let heads = rows.next().expect("a table has a head");
        let mut rows: Vec<_> = rows.collect();
        if let Some(took) = heads.iter().position(|head| head == "TOOK") {
            rows.iter_mut().for_each(|row| TOOK.clone_into(&mut row[took]));
        }
        rows.sort();
        drawn.extend(table(&heads, &rows));
    }
    drawn
}

/// As `etcdctl` draws it: heads in the middle, the rest to the right.
fn table(heads: &[String], rows: &[Vec<String>]) -> Vec<String> {
    let width = |place: usize| {
        let all = rows.iter().map(|row| row[place].len());
        all.chain([heads[place].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..heads.len()).map(width).collect();
    let line =
        |between: &str, cells: Vec<String>| format!("{between}{}{between}", cells.join(between));
    let rule = line("+", widths.iter().map(|width| "-".repeat(width + 2)).collect());
    let head = heads.iter().zip(&widths).map(|(head, width)| format!(" {head:^width$} "));
    let mut drawn = vec![rule.clone(), line("|", head.collect()), rule.clone()];
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:>width$} "));
        drawn.push(line("|", cells.collect()));
    }
    drawn.push(rule);
    drawn
}

/// The statistics of followers, of which nothing but the ids tells them apart, come in the order of their ids.
fn followers_in_order(line: &str) -> String {
    const BEHIND: &str = "\":{\"latency\"";
    let pieces: Vec<_> = line.split(BEHIND).collect();
    let [befores @ .., last] = pieces.as_slice() else { return line.to_owned() };
    let parts: Vec<_> = befores.iter().filter_map(|piece| piece.rsplit_once('"')).collect();
    let mut ids: Vec<_> = parts.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    let ordered = parts.iter().zip(ids);
    let ordered = ordered.map(|((before, _), id)| format!("{before}\"{id}{BEHIND}"));
    ordered.collect::<String>() + last
}

/// Whether these hex digits are an id that is new with each run.
fn is_random(run: &str) -> bool {
    let of = |kind: fn(&char) -> bool| run.chars().any(|letter| kind(&letter));
    (13..=16).contains(&run.len()) && of(char::is_ascii_digit) && of(char::is_ascii_alphabetic)
}

/// Changes each number that stands behind `before`.
fn each_number_behind(text: &str, before: &str, change: impl Fn(u64) -> u64) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(before) {
        let (head, from) = rest.split_at(at + before.len());
        let end = from.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(from.len());
        let (digits, behind) = from.split_at(end);
        out.push_str(head);
        match digits.parse() {
            // Names of keys have zeros in front, and keep their length.
            Ok(number) => {
                let width = if digits.starts_with('0') { digits.len() } else { 0 };
                out.push_str(&format!("{:01$}", change(number), width));
            }
            Err(_) => out.push_str(digits),
        }
        rest = behind;
    }
    out + rest
}

/// Whether a date and a time begin here; how long they are.
fn date(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let fits = bytes.len() >= DATE_BYTES
        && bytes[..10].iter().zip(b"0000-00-00").all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            _ => byte == like,
        })
        && bytes[10] == b'T';
    let end = text.find('Z')? + 1;
    (fits && end < 40).then_some(end)
}

fn with_dates(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        match date(rest) {
            Some(end) => {
                out.push_str(DATE);
                rest = &rest[end..];
            }
            None => {
                out.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    out
}

/// `N` for each number that is no part of a name, a date or an address.
fn without_numbers(text: &str) -> String {
    let in_word = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '+' | ':' | '_' | '/')
    };
    let (mut out, mut rest) = (String::new(), text);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !in_word(letter)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        // The value behind a name of JSON.
        let (name, value) = word.split_at(word.len() - word.trim_start_matches(':').len());
        let is_id = value.len() == 16 && !value.contains('.');
        let is_duration =
            value.ends_with('s') && value.starts_with(|first: char| first.is_ascii_digit());
        out.push_str(name);
        out.push_str(match (value.parse::<f64>().is_ok() && !is_id) || is_duration {
            true => "N",
            false => value,
        });
        let next = behind.chars().next().map_or(0, char::len_utf8);
        out.push_str(&behind[..next]);
        rest = &behind[next..];
    }
    out
}

#[test]
fn what_differs_is_made_the_same() {
    let mut same = Same::new("run", "10.9.8.", Path::new("/tmp/x/bin"), Path::new("/tmp/x/etc"));
    let member = |(node, id): (&str, &str)| Member {
        node: node.to_owned(),
        name: String::new(),
        id: id.to_owned(),
    };
    let members = [("node1", "ab12"), ("node2", "cd34"), ("node3", "ef56")].map(member);
    same.learn(&members, Some(("99aa".to_owned(), 12)));
    same.begin(12);
    for (ours, shown) in [
        ("ab12: name=etcd_node1 isLeader=true", "1010101010101010: name=etcd_node1 isLeader=..."),
        (
            "member cd34 is\nmember ab12 is",
            "member 1010101010101010 is\nmember 2020202020202020 is",
        ),
        (r#"{"modifiedIndex":15,"createdIndex":3}"#, r#"{"modifiedIndex":10,"createdIndex":3}"#),
        ("X-Etcd-Index: 13\r", "X-Etcd-Index: 8"),
        ("/a/00000000000000000014", "/a/00000000000000000009"),
        ("Error:  100: Key not found (/a) [12]", "Error:  100: Key not found (/a) [7]"),
        ("\"2027-03-04T05:06:07.891Z\"", "\"2026-01-01T12:00:00Z\""),
        ("http://10.9.8.28:2379 run-node2-etcd", "http://172.16.1.28:2379 etcd"),
        ("got endpoints(b,a) after sync", "got endpoints(a,b) after sync"),
        (
            "8d3, started, b, http://10.9.8.29:2380, http://10.9.8.29:2379, false\n52532, started",
            "8d3, started, b, http://172.16.1.29:2380, http://172.16.1.29:2379, false\n2314885530818453536, started",
        ),
        (
            "lease 32693f0ba3c8b70e granted with TTL(500s), remaining(498s)",
            "lease 694d5765fc71500b granted with TTL(500s), remaining(500s)",
        ),
        ("\"raft_term\":\"31\"", "\"raft_term\":\"2\""),
        (
            "+-----+------+\n|  X  | TOOK |\n+-----+------+\n| b2 |  1.25ms |\n| a | 1ms |\n+-----+------+",
            "+----+-------+\n| X  | TOOK  |\n+----+-------+\n|  a | 2.3ms |\n| b2 | 2.3ms |\n+----+-------+",
        ),
        (
            r#"{"cd34":{"latency":{}},"ab12":{"latency":{}}}"#,
            r#"{"1010101010101010":{"latency":{}},"2020202020202020":{"latency":{}}}"#,
        ),
    ] {
        assert_eq!(same.printed(ours, false), format!("{shown}\n"));
    }
    let measured =
        "{\"a\":1,\"b\":-2.5e-3,\"uptime\":\"1m3.5s\",\"at\":\"2027-03-04T05:06:07Z\"} x_1 7";
    let shown = "{\"a\":N,\"b\":N,\"uptime\":\"N\",\"at\":\"2026-01-01T12:00:00Z\"} x_1 N\n";
    assert_eq!(same.printed(measured, true), shown);
    assert_eq!(
        same.executed("etcdctl put a b --lease=694d5765fc71500b"),
        "etcdctl put a b --lease=32693f0ba3c8b70e"
    );
    assert_eq!(same.executed("curl 172.16.1.28?waitIndex=9"), "curl 10.9.8.28?waitIndex=14");
    assert_eq!(
        same.executed("/usr/bin/etcdctl --ca-file /etc/etcd/ca"),
        "/tmp/x/bin/etcdctl --ca-file /tmp/x/etc/ca"
    );
}
