//! What comes over, and in which order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::client::{Stream, base64};
use crate::copying::{Both, there};
use crate::program::{pairs, send, set, tried};
use crate::support::node::wait_until;
use crate::support::rng::{Rng, seed_from_env};
use crate::support::server::{Flavor, Server};

#[test]
fn keys_come_over_with_their_values_and_a_second_run_writes_nothing() {
    for both in Both::each() {
        for (key, value) in [
            ("/service/a/config", "1"),
            ("/service/b", ""),
            ("/service/a%20b/%C3%A9", "x%00y%0a%C3%A9"),
            ("/service/_hidden/x", "1"),
            ("/services", "not below it"),
        ] {
            set(&both.source, key, value);
        }
        send(both.source.addr(), "PUT", "/service/empty/one", "dir=true");
        let one = both.copied(&["--prefix", "/service/", "--verify"]);
        assert_eq!(
            (&one["keys"], &one["writes"], &one["emptyDirectories"], &one["verified"]["compared"]),
            (&json!(3), &json!(3), &json!(1), &json!(3)),
            "{one}"
        );
        let expected = [
            ("/service/a b/é".to_owned(), "x\0y\né".to_owned(), false),
            ("/service/a/config".to_owned(), "1".to_owned(), false),
            ("/service/b".to_owned(), String::new(), false),
        ];
        assert_eq!(both.keys(), expected);
        let two = both.copied(&["--prefix", "/service"]);
        assert_eq!((&two["keys"], &two["writes"]), (&json!(3), &json!(0)), "{two}");
        // What was changed meanwhile is not known from what a client has changed.
        set(&both.source, "/service/b", "2");
        both.refused(&["--prefix", "/service"], 1, &["/service/b", "--differences=source"]);
        let three = both.copied(&["--prefix", "/service", "--differences", "source"]);
        assert_eq!(three["writes"], 1, "{three}");
        assert_eq!(there(both.v3(), "/service/b").as_deref(), Some("2"));
    }
}

#[test]
fn another_prefix_and_a_hidden_directory_and_a_single_key() {
    let both = Both::alone(Flavor::Subject);
    set(&both.source, "/a/b/c", "1");
    set(&both.source, "/a/_h/d", "2");
    for (prefix, instead, key) in [
        ("/a", "/x/y/", "/x/y/b/c"),
        ("/a", "", "/b/c"),
        ("/", "all:", "all:/a/b/c"),
        ("/a/_h", "/h", "/h/d"),
        ("/a/b/c", "/one", "/one"),
    ] {
        both.copied(&[
            "--prefix",
            prefix,
            "--to-prefix",
            instead,
            "--verify",
            "--differences=target",
        ]);
        assert!(there(both.v3(), key).is_some(), "{prefix} {instead} {key}: {:?}", both.keys());
    }
    assert_eq!(both.keys().len(), 5, "{:?}", both.keys());
    both.refused(&["--prefix", "/a/b/c", "--to-prefix", "/"], 1, &["/a/b/c is a key"]);
}

/// One writer sets `a` and then `b` to the same number: at every index `a` is as large, or one larger.
#[test]
fn a_copy_is_of_one_index_whatever_is_written_meanwhile() {
    for (from, to) in pairs() {
        let both = Both::of(from, to);
        for number in 0..700 {
            set(&both.source, &format!("/d/k/{number:03}"), &"x".repeat(4000));
        }
        let writing = AtomicBool::new(true);
        thread::scope(|scope| {
            let source = &both.source;
            let writing = &writing;
            set(source, "/d/a", "0");
            set(source, "/d/z", "0");
            scope.spawn(move || {
                for number in 1.. {
                    set(source, "/d/a", &number.to_string());
                    set(source, "/d/z", &number.to_string());
                    if !writing.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            for round in 0..5 {
                let to_prefix = format!("/copy{round}");
                let said = both.copied(&["--prefix", "/d", "--to-prefix", &to_prefix]);
                assert_eq!(said["writes"], 702, "{said}");
                let value = |key: &str| {
                    let value =
                        there(both.v3(), &format!("{to_prefix}/{key}")).expect("it is there");
                    value.parse::<u64>().expect("a number")
                };
                assert!((0..=1).contains(&(value("a") - value("z"))));
            }
            writing.store(false, Ordering::Relaxed);
        });
        assert_eq!(both.keys().len(), 5 * 702, "what does not fit one request comes in several");
    }
}

fn step(server: &Server, rng: &mut Rng) {
    let key = rng.pick(&["a", "b", "c/d", "c/e", "c", "f", "g/h/i", "g/h", "_h/x", "%C3%A9%20x"]);
    let value = rng.below(4);
    let (method, query, body) = match rng.below(14) {
        0 => ("DELETE", "?recursive=true", String::new()),
        1 => ("DELETE", "?prevValue=v1", String::new()),
        2 => ("PUT", "?prevValue=v2", format!("value=v{value}")),
        3 => ("PUT", "?prevExist=false", format!("value=v{value}")),
        4 => ("PUT", "?prevExist=true", format!("value=v{value}&ttl=5000")),
        5 => ("PUT", "", format!("value=v{value}&ttl=1")),
        6 => ("PUT", "", format!("value=v{value}&ttl={}", 3000 + rng.below(1000))),
        7 => ("POST", "", format!("value=job{value}")),
        8 => ("PUT", "", "dir=true".to_owned()),
        9 => ("DELETE", "?dir=true", String::new()),
        _ => ("PUT", "", format!("value=v{value}%26%3D")),
    };
    let reply = tried(server.addr(), method, &format!("/{key}{query}"), &body);
    assert!(reply.status() < 500, "{method} {key}{query} {body}: {}", reply.text());
}

#[test]
fn a_random_program_comes_over_before_and_while_it_is_followed() {
    let seed = seed_from_env("COPY_SEED");
    for both in Both::each() {
        let mut rng = Rng::new(seed);
        for _ in 0..60 {
            step(&both.source, &mut rng);
        }
        let copy = both.follow(&["--verify"]);
        for _ in 0..200 {
            step(&both.source, &mut rng);
        }
        wait_until("everything is there", || both.keys() == both.files("/"));
        let said = copy.verified();
        assert!(!said.contains("left to clients"), "seed {seed}: {said}");
        assert_eq!(both.keys(), both.files("/"), "seed {seed}");
    }
}

#[test]
fn each_change_of_a_key_is_seen_in_version_3_and_in_its_order() {
    for both in Both::each() {
        set(&both.source, "/seen/0", "begin");
        let range =
            json!({"key": base64("/seen/"), "range_end": base64("/seen0"), "start_revision": "1"});
        let stream = Stream::watch(both.v3(), &range);
        let copy = both.follow(&[]);
        for number in 0..60 {
            let key = format!("/seen/{}", number % 3);
            match number % 6 {
                5 => drop(send(both.source.addr(), "DELETE", &key, "")),
                _ => set(&both.source, &key, &number.to_string()),
            }
        }
        set(&both.source, "/seen/end", "end");
        let events = stream.events_to("/seen/end=end");
        let of = |key: &str| -> Vec<String> {
            let events = events.iter().filter_map(|event| event.split_once(' '));
            let events = events.filter(|(_, event)| event.contains(key));
            events.map(|(_, event)| event.to_owned()).collect()
        };
        for key in 0..3 {
            let mut expected: Vec<_> =
                (key == 0).then(|| "/seen/0=begin".to_owned()).into_iter().collect();
            expected.extend((0..60).filter(|number| number % 3 == key).map(|number| {
                match number % 6 {
                    5 => format!("-/seen/{key}"),
                    _ => format!("/seen/{key}={number}"),
                }
            }));
            assert_eq!(of(&format!("/seen/{key}")), expected);
        }
        copy.end();
    }
}

#[test]
fn directories_take_their_keys_with_them() {
    for both in Both::each() {
        set(&both.source, "/app/d/a", "1");
        set(&both.source, "/app/d/e/b", "1");
        set(&both.source, "/app/d-x", "1");
        let copy = both.follow(&["--prefix", "/app", "--verify"]);
        assert_eq!(both.keys().len(), 3);
        send(both.source.addr(), "DELETE", "/app/d?recursive=true", "");
        wait_until("they go", || both.keys().len() == 1);
        // A directory may take the place of a key.
        send(both.source.addr(), "PUT", "/app/d-x", "dir=true");
        wait_until("it goes", || both.keys().is_empty());
        set(&both.source, "/app/d/new", "2");
        wait_until("it comes", || both.keys().len() == 1);
        send(both.source.addr(), "DELETE", "/app?recursive=true", "");
        wait_until("the prefix goes", || both.keys().is_empty());
        set(&both.source, "/app/again", "3");
        wait_until("and comes back", || there(both.v3(), "/app/again").is_some());
        copy.verified();
    }
}
