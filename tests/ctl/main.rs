//! `etcdctl` as its users see it: our tool and the real one, cairn and the real etcd.

#[path = "../support/mod.rs"]
mod support;

#[path = "../tls/pki.rs"]
#[expect(dead_code, reason = "the tests of TLS use more of it")]
mod pki;

mod beyond;
mod beyond3;
mod secured;
mod session;
mod session3;
mod several;
mod tool;
mod watching;
