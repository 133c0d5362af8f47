//! Where two answers differ, apart from times, ids and the words of a parser.

use crate::support::http::{Progress, Reply, Request};
use crate::support::json::Json;
use crate::support::time::parse_time;

/// Headers that are compared; of the first ones only whether they are there.
const PRESENT: [&str; 3] = ["X-Raft-Index", "X-Raft-Term", "X-Etcd-Cluster-Id"];
const EQUAL: [&str; 6] = [
    "Content-Type",
    "X-Etcd-Index",
    "Location",
    "Allow",
    "X-Content-Type-Options",
    "Www-Authenticate",
];

/// The indexes of the events in a body; `None` when a line is none.
pub(crate) fn indexes(progress: &Progress) -> Option<Vec<u64>> {
    let body = String::from_utf8_lossy(&progress.body).into_owned();
    body.lines()
        .map(|line| Json::parse(line)?.get("node")?.get("modifiedIndex")?.number())
        .collect()
}

/// The first difference between two answers, if there is one.
pub(crate) fn difference(theirs: &Reply, ours: &Reply, sorted: bool) -> Option<String> {
    let differ = |what: &str, theirs: &str, ours: &str| {
        let cut = |text: &str| text.chars().take(3000).collect::<String>();
        Some(format!("{what}\n    etcd {}\n    we   {}", cut(theirs), cut(ours)))
    };
    if theirs.status() != ours.status() {
        let shown = |reply: &Reply| format!("{} {}", reply.status(), reply.text());
        return differ("status", &shown(theirs), &shown(ours));
    }
    for name in EQUAL {
        let (theirs, ours) = (theirs.get(name), ours.get(name));
        if theirs != ours {
            return differ(name, &format!("{theirs:?}"), &format!("{ours:?}"));
        }
    }
    for name in PRESENT {
        let (theirs, ours) = (theirs.get(name), ours.get(name));
        if theirs.is_some() != ours.is_some() {
            return differ(name, &format!("{theirs:?}"), &format!("{ours:?}"));
        }
    }
    let (their_text, our_text) = (theirs.text(), ours.text());
    let (mut a, mut b) = (their_text.as_str(), our_text.as_str());
    let normal = if a == b { None } else { normalise(a, b, sorted) };
    if let Some((normal_a, normal_b)) = &normal {
        (a, b) = (normal_a, normal_b);
    }
    if a == b { None } else { differ("body", &their_text, &our_text) }
}

/// Takes out of two bodies what may differ; `None` when they are not JSON, line by line.
pub(crate) fn normalise(a: &str, b: &str, sorted: bool) -> Option<(String, String)> {
    // Lines are kept apart, so that a missing or an additional newline stays a difference.
    let (lines_a, lines_b): (Vec<_>, Vec<_>) = (a.split('\n').collect(), b.split('\n').collect());
    let (mut out_a, mut out_b) = (String::new(), String::new());
    if lines_a.len() != lines_b.len() {
        return None;
    }
    for (a, b) in lines_a.into_iter().zip(lines_b) {
        if a != b {
            let (mut a, mut b) = (Json::parse(a)?, Json::parse(b)?);
            if !sorted {
                a.sort_nodes();
                b.sort_nodes();
            }
            forgive(&mut a, &mut b, "");
            out_a.push_str(&a.write());
            out_b.push_str(&b.write());
        }
        out_a.push('\n');
        out_b.push('\n');
    }
    Some((out_a, out_b))
}

/// Makes equal what is near enough: times and ids.
pub(crate) fn forgive(a: &mut Json, b: &mut Json, field: &str) {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) => {
            for ((name, a), (other, b)) in a.iter_mut().zip(b) {
                if name == other {
                    forgive(a, b, name);
                }
            }
        }
        (Json::Array(a), Json::Array(b)) => {
            a.iter_mut().zip(b).for_each(|(a, b)| forgive(a, b, field));
        }
        (a @ Json::Atom(_), b @ Json::Atom(_)) => {
            let (Some(x), Some(y)) = (a.text(), b.text()) else { return };
            let near = match field {
                "expiration" => match (parse_time(x), parse_time(y)) {
                    (Some(x), Some(y)) => (x - y).abs() <= 1.0,
                    _ => false,
                },
                "ttl" => match (x.parse::<i64>(), y.parse::<i64>()) {
                    (Ok(x), Ok(y)) => x.abs_diff(y) <= 1,
                    _ => false,
                },
                "id" | "leader" => [x, y].iter().all(|id| {
                    (1..=16).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_hexdigit())
                }),
                _ => false,
            };
            if near {
                *a = b.clone();
            }
        }
        _ => {}
    }
}

/// etcd's report of a parser's error without its words; `None` when the words are etcd's own.
pub(crate) fn without_words(theirs: &Reply) -> Option<Reply> {
    const PARSERS: [&str; 5] =
        ["mime: ", "json: ", "parse ", "invalid character ", "unexpected end "];
    let json = Json::parse(&theirs.text())?;
    let words = json.get("cause").or_else(|| json.get("message"))?.text()?;
    PARSERS.iter().any(|parser| words.starts_with(parser)).then(|| without_words_of(theirs))?
}

/// An error with an empty cause, or with an empty message when there is no code.
pub(crate) fn without_words_of(reply: &Reply) -> Option<Reply> {
    let mut json = Json::parse(&reply.text())?;
    let name = if json.get("errorCode").is_some() { "cause" } else { "message" };
    json.get(name)?;
    json.each_object(&mut |fields| fields.retain(|(field, _)| field != name));
    let end = if reply.body.ends_with(b"\n") { "\n" } else { "" };
    Some(Reply { head: reply.head.clone(), body: (json.write() + end).into_bytes() })
}

/// Whether a request asks for listings in order.
pub(crate) fn asks_sorted(request: &Request) -> bool {
    let target = String::from_utf8_lossy(&request.target);
    ["sorted=true", "sorted=1", "sorted=t"].iter().any(|field| target.contains(field))
}

/// Our listings are always in order (improvement 23).
pub(crate) fn in_order(request: &Request, ours: &Reply) -> Result<(), String> {
    let Some(mut json) = Json::parse(&ours.text()) else { return Ok(()) };
    let mut wrong = None;
    json.each_object(&mut |fields| {
        for (name, value) in fields.iter() {
            if let (true, Json::Array(nodes)) = (name == "nodes", value) {
                let keys: Vec<&str> =
                    nodes.iter().filter_map(|node| node.get("key")?.text()).collect();
                // Escapes are in the text, so only keys without them can be compared as they are.
                if !keys.is_sorted() && keys.iter().all(|key| !key.contains('\\')) {
                    wrong = Some(format!("{request}: not in order: {keys:?}"));
                }
            }
        }
    });
    wrong.map_or(Ok(()), Err)
}

/// Whether both watches told the same, apart from what etcd tells twice (improvement 2).
pub(crate) fn same_events(theirs: &Progress, ours: &Progress) -> Result<(), String> {
    let once = |progress: &Progress| -> Reply {
        let text = String::from_utf8_lossy(&progress.body).into_owned();
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.dedup_by(|a, b| a == b && a.contains("\"expire\""));
        Reply {
            head: progress.head.clone().unwrap_or_default(),
            body: lines.join("\n").into_bytes(),
        }
    };
    if theirs.ended != ours.ended {
        return Err(format!("etcd ended: {}, we: {}", theirs.ended, ours.ended));
    }
    difference(&once(theirs), &once(ours), true).map_or(Ok(()), Err)
}
