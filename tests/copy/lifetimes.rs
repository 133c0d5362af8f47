//! Keys with a lifetime.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::call;
use crate::copying::{Both, lease, there};
use crate::program::{get, send, set};
use crate::support::node::wait_until;

fn refresh(both: &Both, key: &str, ttl: u64) {
    let target = format!("{key}?prevExist=true&refresh=true");
    send(both.source.addr(), "PUT", &target, &format!("ttl={ttl}"));
}

#[test]
fn a_key_that_is_renewed_without_an_event_lives_on_and_ends_when_it_ends_in_the_source() {
    for both in Both::each() {
        send(both.source.addr(), "PUT", "/leader", "value=a&ttl=3");
        send(both.source.addr(), "PUT", "/dir", "dir=true&ttl=3");
        set(&both.source, "/dir/in", "1");
        let copy = both.follow(&["--verify"]);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(8) {
            refresh(&both, "/leader", 3);
            send(both.source.addr(), "PUT", "/dir?prevExist=true&refresh=true&dir=true", "ttl=3");
            let next = Instant::now() + Duration::from_millis(500);
            while Instant::now() < next {
                assert_eq!(there(both.v3(), "/leader").as_deref(), Some("a"));
                assert_eq!(there(both.v3(), "/dir/in").as_deref(), Some("1"));
                thread::sleep(Duration::from_millis(50));
            }
        }
        let (_, left) = lease(both.v3(), "/leader").expect("a lease");
        assert!(left <= 6, "{left}");
        wait_until("it ends in the source", || get(&both.source, "/leader")["errorCode"] == 100);
        let ended = Instant::now();
        wait_until("it ends in the target", || there(both.v3(), "/leader").is_none());
        assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
        wait_until("what is in the directory ends", || there(both.v3(), "/dir/in").is_none());
        copy.verified();
        let leases = call(both.v3(), "lease/leases", &json!({}));
        assert!(leases["leases"].as_array().is_none_or(Vec::is_empty), "{leases}");
    }
}

#[test]
fn a_lease_ends_within_a_second_of_the_key_and_a_second_run_leaves_it() {
    for both in Both::each() {
        send(both.source.addr(), "PUT", "/long", "value=1&ttl=1000");
        send(both.source.addr(), "PUT", "/dir", "dir=true&ttl=500");
        send(both.source.addr(), "PUT", "/dir/in", "value=1&ttl=900");
        send(both.source.addr(), "PUT", "/short", "value=1&ttl=6");
        set(&both.source, "/stays", "1");
        both.copied(&["--ttl", "lease"]);
        for (key, of) in [("/long", "/long"), ("/dir/in", "/dir"), ("/short", "/short")] {
            let (_, left) = lease(both.v3(), key).expect("a lease");
            let source = get(&both.source, of)["node"]["ttl"].as_i64().expect("a lifetime");
            assert!((-2..=1).contains(&(left - source)), "{key}: {left} and {source}");
        }
        assert_eq!(lease(both.v3(), "/stays"), None);
        let again = both.copied(&["--ttl", "lease"]);
        assert_eq!((&again["writes"], &again["keys"]), (&json!(0), &json!(4)), "{again}");
        // Renewed meanwhile: that is the only write.
        refresh(&both, "/long", 2000);
        let again = both.copied(&["--ttl", "lease"]);
        assert_eq!(again["writes"], 1, "{again}");
        assert!(lease(both.v3(), "/long").expect("a lease").1 > 1900);
        wait_until("it ends in the source", || get(&both.source, "/short")["errorCode"] == 100);
        let ended = Instant::now();
        wait_until("it ends in the target", || there(both.v3(), "/short").is_none());
        assert!(ended.elapsed() < Duration::from_millis(1900), "{:?}", ended.elapsed());
    }
}

#[test]
fn a_key_becomes_permanent_and_the_other_way_round() {
    for both in Both::each() {
        send(both.source.addr(), "PUT", "/stays", "value=1&ttl=1000");
        set(&both.source, "/goes", "1");
        send(both.source.addr(), "PUT", "/dir", "dir=true&ttl=1000");
        set(&both.source, "/dir/in", "1");
        let copy = both.follow(&["--verify"]);
        set(&both.source, "/stays", "2");
        send(both.source.addr(), "PUT", "/goes", "value=2&ttl=500");
        send(both.source.addr(), "PUT", "/dir?prevExist=true&dir=true", "ttl=");
        wait_until("they have the other", || {
            let has = |key: &str| lease(both.v3(), key).is_some();
            !has("/stays") && has("/goes") && !has("/dir/in")
        });
        send(both.source.addr(), "PUT", "/dir?prevExist=true&dir=true", "ttl=300");
        wait_until("it has a lifetime again", || {
            lease(both.v3(), "/dir/in").is_some_and(|(_, left)| left <= 302)
        });
        copy.verified();
    }
}

#[test]
fn keys_with_a_lifetime_are_left_out_unless_they_are_wanted() {
    for both in Both::each() {
        send(both.source.addr(), "PUT", "/beat", "value=1&ttl=1000");
        set(&both.source, "/stays", "1");
        let said = both.run(&[]);
        assert!(
            said.code == Some(0) && said.out.contains("1 keys with a lifetime were left out"),
            "{said:?}"
        );
        assert_eq!(both.keys(), [("/stays".to_owned(), "1".to_owned(), false)]);
        let copy = both.follow(&["--ttl=skip", "--verify"]);
        send(both.source.addr(), "PUT", "/dir", "dir=true&ttl=1000");
        set(&both.source, "/dir/in", "1");
        send(both.source.addr(), "PUT", "/stays", "value=2&ttl=1000");
        wait_until("it is left out from then on", || both.keys().is_empty());
        set(&both.source, "/beat", "2");
        wait_until("it is copied from then on", || there(both.v3(), "/beat").is_some());
        assert_eq!(there(both.v3(), "/dir/in"), None);
        send(both.source.addr(), "PUT", "/dir?prevExist=true&dir=true", "ttl=");
        wait_until("what is in it comes", || there(both.v3(), "/dir/in").is_some());
        copy.verified();
    }
}
