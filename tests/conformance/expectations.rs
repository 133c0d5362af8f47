//! A wrong expectation must fail, and a right one must not.

use crate::case::{Play, compare, without_words};
use crate::lane::Way;
use crate::support::http::{Head, Reply};
use crate::support::template::Values;

/// Whether `got` fits `template` in a case with the prefix `/p` and the index 7, sent at 1970.
fn fits(template: &str, got: &str) -> bool {
    Values::new("/p", 7).fit(template, got, 0.0).is_ok()
}

#[test]
fn a_template_fits_what_it_stands_for() {
    for (template, got) in [
        ("", ""),
        ("a.b", "a.b"),
        ("${P}/a ${i} ${i+3} ${i-1} ${i+3:020}", "/p/a 7 10 6 00000000000000000010"),
        ("${rep:x*3}|", "xxx|"),
        ("${uint}${uint}", "12"),
        ("${float} ${float} ${float}", "1 -2.5 1e-06"),
        ("${hex}", "00ffaa"),
        ("${hex:m}=${hex:m}", "ab=ab"),
        (r#""${str}""#, r#""x y""#),
        ("<${any}>", "<a>b>"),
        ("${time} ${time}", "2024-02-29T23:59:59Z 2024-02-29T23:59:59.123456789Z"),
        ("${time+100}", "1970-01-01T00:01:42.9Z"),
        ("${time-5}", "1969-12-31T23:59:55Z"),
        ("${ttl~100} ${ttl~100}", "98 100"),
        ("${duration} ${duration}", "1m3.5s 12.5µs"),
    ] {
        assert!(fits(template, got), "{template:?} should fit {got:?}");
    }
}

#[test]
fn a_template_does_not_fit_anything_else() {
    for (template, got) in [
        ("", "a"),
        ("a", ""),
        ("a.b", "axb"),
        ("a", "a\n"),
        ("a\n", "a"),
        ("${P}", "/q"),
        ("${i}", "8"),
        ("${i+1}", "7"),
        ("${i+1:020}", "8"),
        ("${rep:x*3}", "xx"),
        ("${rep:x*3}", "xxxx"),
        ("${uint}", ""),
        ("${uint}", "-1"),
        ("${uint}", "1.5"),
        ("${uint}${uint}", "1"),
        ("${float}", "1."),
        ("${float}", "x"),
        ("${hex}", "AB"),
        ("${hex}", "01234567890123456"),
        ("${hex:m}=${hex:m}", "ab=ac"),
        (r#""${str}""#, r#""a"b""#),
        ("<${any}>", "<a>b"),
        ("${time}", "2024-02-29T23:59:59+00:00"),
        ("${time}", "2024-02-29T23:59:59.Z"),
        ("${time}", "2024-02-29T23:59:59.1234567890Z"),
        ("${time+100}", "1970-01-01T00:01:44Z"),
        ("${time+100}", "1970-01-01T00:01:36Z"),
        ("${ttl~100}", "97"),
        ("${ttl~100}", "101"),
        ("${duration}", "5"),
        ("${nonsense}", "nonsense"),
    ] {
        assert!(!fits(template, got), "{template:?} should not fit {got:?}");
    }
}

#[test]
fn a_bound_name_holds_for_later_answers() {
    let mut values = Values::new("/p", 7);
    assert_eq!(values.fit("${hex:cluster}", "ab12", 0.0), Ok(()));
    assert_eq!(values.fit("${hex:cluster}", "ab12", 0.0), Ok(()));
    assert!(values.fit("${hex:cluster}", "ab13", 0.0).is_err());
    assert_eq!(values.expand("/${cluster}"), Ok("/ab12".to_owned()));
    assert!(values.expand("/${other}").is_err());
}

/// What is wrong with an answer of 201, `X-Etcd-Index: 8`, `Date` and the body `{"a":1}`.
fn wrong_with(expect: &str) -> Vec<String> {
    let headers = [("x-etcd-index", "8"), ("Date", "today")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let head = Head { status: 201, reason: String::new(), headers };
    let reply = Reply { head, body: b"{\"a\":1}".to_vec() };
    let expect = serde_json::from_str(expect).expect("an expectation is JSON");
    let play = Play { improved: false, words: true, prev: true, way: Way::FastPath };
    let mut problems = Vec::new();
    compare(&mut Values::new("/p", 7), &expect, &reply, 0.0, &play, &mut problems);
    problems
}

#[test]
fn a_wrong_answer_is_found() {
    let right = r#"{"status":201,"headers":{"X-Etcd-Index":"${i+1}"},"body":"{\"a\":1}"}"#;
    assert_eq!(wrong_with(right), Vec::<String>::new());
    for (from, to) in [
        ("201", "200"),
        ("${i+1}", "${i}"),
        ("X-Etcd-Index", "X-Raft-Index"),
        (r#""X-Etcd-Index":"${i+1}""#, ""),
        (r#":"${i+1}""#, r#":"${i+1}","Allow":"GET""#),
        (r#"1}""#, r#"1}\n""#),
        (r#"1}""#, r#"2}""#),
    ] {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from} is in it");
        assert!(!wrong_with(&wrong).is_empty(), "{wrong} should not be met");
    }
}

#[test]
fn words_of_a_parser_stand_for_any_words() {
    assert_eq!(
        without_words(r#"{"errorCode":210,"message":"m","cause":"mime: x","index":0}"#),
        r#"{"errorCode":210,"message":"m","cause":"${any}","index":0}"#
    );
    assert_eq!(without_words(r#"{"message":"a \"b\""}"#), r#"{"message":"${any}"}"#);
    let other = r#"{"errorCode":100,"message":"m","cause":"/a","index":0}"#;
    assert_eq!(without_words(other), other);
}
