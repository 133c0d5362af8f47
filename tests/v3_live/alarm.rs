//! Alarms, which name a member as the client does: zero, which python-etcd3 says, is a name as well.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{base64, call, try_call};
use crate::support::server::{Flavor, Server, etcd_is_there};

/// Requests in turn: what, of which kind, of which member; `true` stands for the member itself.
fn requests() -> Vec<Value> {
    let ask = |action: &str, alarm: &str, member: Value| json!({"action": action, "alarm": alarm, "memberID": member});
    let (nobody, other, own) = (json!("0"), json!("77"), json!(true));
    vec![
        ask("ACTIVATE", "NOSPACE", nobody.clone()),
        ask("ACTIVATE", "NOSPACE", nobody.clone()),
        ask("ACTIVATE", "NOSPACE", own.clone()),
        ask("GET", "NONE", nobody.clone()),
        ask("GET", "NONE", other.clone()),
        ask("GET", "NOSPACE", own.clone()),
        ask("GET", "CORRUPT", nobody.clone()),
        ask("DEACTIVATE", "NONE", nobody.clone()),
        ask("DEACTIVATE", "NONE", own.clone()),
        ask("GET", "NONE", nobody.clone()),
        ask("DEACTIVATE", "CORRUPT", nobody.clone()),
        ask("DEACTIVATE", "NOSPACE", nobody.clone()),
        ask("DEACTIVATE", "NOSPACE", nobody.clone()),
        ask("GET", "NONE", nobody.clone()),
        ask("DEACTIVATE", "NOSPACE", own),
        ask("GET", "NONE", nobody.clone()),
        ask("ACTIVATE", "NOSPACE", other.clone()),
        ask("DEACTIVATE", "NOSPACE", nobody),
        ask("DEACTIVATE", "NOSPACE", other),
    ]
}

/// What is answered to each, and whether a key can be put then.
fn answers(addr: SocketAddr) -> Vec<(Value, bool)> {
    let members = call(addr, "cluster/member/list", &json!({}));
    let own = members["members"][0]["ID"].clone();
    let one = |mut request: Value| {
        if request["memberID"] == true {
            request["memberID"] = own.clone();
        }
        let answer = call(addr, "maintenance/alarm", &request);
        let mut alarms = answer["alarms"].clone();
        for alarm in alarms.as_array_mut().into_iter().flatten() {
            if alarm["memberID"] == own {
                alarm["memberID"] = json!("own");
            }
        }
        let put = json!({"key": base64("a"), "value": base64("1")});
        (alarms, try_call(addr, "kv/put", &put).expect("an answer").0 == 200)
    };
    requests().into_iter().map(one).collect()
}

#[test]
fn alarms_are_of_whom_the_client_says() {
    let server = Server::start(Flavor::Subject);
    let ours = answers(server.addr());
    let all = json!([{"alarm": "NOSPACE"}, {"memberID": "own", "alarm": "NOSPACE"}]);
    assert_eq!(ours[0], (json!([{"alarm": "NOSPACE"}]), false));
    assert_eq!(ours[3], (all, false));
    assert_eq!(ours.last(), Some(&(json!([{"memberID": "77", "alarm": "NOSPACE"}]), true)));
    if !etcd_is_there() {
        eprintln!("skipped: there is no etcd here to compare with");
        return;
    }
    let etcd = Server::start(Flavor::Etcd);
    let mut theirs = answers(etcd.addr());
    // etcd lists them in another order each time; ours stand in the order of the members.
    for (alarms, _) in &mut theirs {
        let alarms = alarms.as_array_mut().into_iter();
        alarms.for_each(|alarms| {
            alarms.sort_by_key(|alarm| alarm["memberID"].as_str().map(str::to_owned))
        });
    }
    for (request, (ours, theirs)) in requests().iter().zip(ours.iter().zip(&theirs)) {
        assert_eq!(ours, theirs, "{request}");
    }
}

/// It ends the process of etcd 3.4.
#[test]
fn an_alarm_of_no_kind_cannot_be_raised() {
    let server = Server::start(Flavor::Subject);
    let (status, answer) =
        try_call(server.addr(), "maintenance/alarm", &json!({"action": "ACTIVATE"}))
            .expect("an answer");
    assert_eq!((status, &answer["code"]), (400, &json!(3)), "{answer}");
    assert_eq!(answer["message"], "etcdserver: no alarm has type 0");
    assert_eq!(call(server.addr(), "maintenance/alarm", &json!({}))["alarms"], Value::Null);
}
