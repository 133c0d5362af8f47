//! Wrong words, servers that are not there, and servers that behave badly.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use crate::{assert_adds_up, measure, number, run};

#[test]
fn wrong_words_end_it_with_two_and_say_what_is_right() {
    for (words, said) in [
        ("", "there is no load"),
        ("puts", "\"puts\" is no load"),
        ("put --conections 5", "\"--conections\" is no flag"),
        ("put --connections many", "write a whole number"),
        ("put --endpoints 127.0.0.1:1", "write http://HOST:PORT"),
    ] {
        let output = run(words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}: {text}");
        assert!(text.contains(said) && text.contains("cairn bench --help"), "{words}: {text}");
        assert!(output.stdout.is_empty(), "{words}");
    }
    let output = run("--help");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("watch-recursive"), "{text}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    for (words, said) in [
        (format!("put --endpoints {url}"), "cannot connect to http://127.0.0.1:"),
        (format!("get --endpoints {url}"), "cannot connect to http://127.0.0.1:"),
        (format!("watch-one --endpoints {url}"), "cannot connect to http://127.0.0.1:"),
        (format!("put --endpoints {url} --pid 4194305"), "there is no such process"),
        (format!("put --endpoints {url} --connections 1048576"), "ulimit -n"),
        (format!("put --endpoints {url} --cacert /nowhere.pem"), "/nowhere.pem"),
    ] {
        let output = run(&words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}: {text}");
        assert!(text.contains(said), "{words}: {text}");
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

/// A server that gives each connection these answers, one for each request, and then hangs up, or keeps silent when `hangs`.
fn server(answers: &'static [&'static str], hangs: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut request = [0; 4096];
                let mut answers = answers.iter();
                // A client that has gone is no failure of the server.
                while stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                    match answers.next() {
                        Some(answer) if stream.write_all(answer.as_bytes()).is_ok() => {}
                        Some(_) => break,
                        None if hangs => {}
                        None => break,
                    }
                }
            });
        }
    });
    url
}

#[test]
fn a_server_that_hangs_up_costs_the_request_that_was_under_way() {
    let url = server(&[OK, OK, OK], false);
    let words = "put --requests 400 --connections 4 --value-size 10";
    let (report, code) = measure(&format!("{words} --endpoints {url}"));
    assert_eq!(code, 0, "{report}");
    assert_adds_up(&report);
    assert_eq!(number(&report, "/requests/sent"), 400, "{report}");
    // Every fourth, but for what the four connections had begun at the end.
    let closed = number(&report, "/failures/closed");
    assert!((96..=100).contains(&closed), "{report}");
    assert_eq!(report["first_trouble"], "the server hung up", "{report}");
}

#[test]
fn a_run_without_one_good_answer_ends_with_one() {
    const NO: &str = "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno";
    const ODD: &str = "SSH-2.0-x\r\n\r\n";
    for (answers, hangs, path) in [
        (&[][..], false, "/failures/closed"),
        (&[], true, "/failures/timeout"),
        (&[ODD], false, "/failures/broken"),
        (&[NO, NO, NO, NO, NO, NO], false, "/answers/500"),
    ] {
        let words = "put --requests 6 --connections 2 --timeout 200ms --value-size 10";
        let (report, code) = measure(&format!("{words} --endpoints {}", server(answers, hangs)));
        assert_eq!(code, 1, "{report}");
        assert_adds_up(&report);
        assert_eq!(number(&report, path), 6, "{report}");
        assert_eq!(number(&report, "/requests/good"), 0, "{report}");
        assert!(report["first_trouble"].is_string(), "{report}");
    }
}

/// A connection that a server closes in good order is opened again, and no request suffers.
#[test]
fn an_answer_that_says_it_is_the_last_is_no_failure() {
    const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK";
    let url = server(&[OK, LAST], false);
    let words = "put --requests 100 --connections 4 --value-size 10";
    let (report, code) = measure(&format!("{words} --endpoints {url}"));
    assert_eq!((code, number(&report, "/requests/good")), (0, 100), "{report}");
}

#[test]
fn keys_that_cannot_be_written_before_the_run_are_told_of() {
    let output = run(&format!("get --keys 5 --endpoints {}", server(&[], false)));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("5 of 5 keys could not be written") && text.contains("hung up"),
        "{text}"
    );
}
