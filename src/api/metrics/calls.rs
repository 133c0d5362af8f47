//! Calls of version 3, by service and method, under the names that gRPC's own middleware has.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::api::metrics::make::known;
use crate::rpc::Code;

/// The metrics of all calls.
pub(super) struct Calls {
    started: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handled: IntCounterVec,
}

/// The metrics of one call.
pub(in crate::api) struct CallMeter {
    pub(in crate::api) started: IntCounter,
    /// Messages from clients.
    pub(in crate::api) received: IntCounter,
    /// Messages to clients.
    pub(in crate::api) sent: IntCounter,
    /// By code.
    handled: [IntCounter; Code::ALL.len()],
}

impl CallMeter {
    /// A call is over.
    pub(in crate::api) fn handled(&self, code: Code) {
        self.handled[code as usize].inc();
    }
}

impl Calls {
    pub(super) fn new(registry: &Registry) -> Self {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let counters = |name, help| known(IntCounterVec::new(Opts::new(name, help), &labels));
        let by_code = [&labels[..], &["grpc_code"]].concat();
        let this = Self {
            started: counters("grpc_server_started_total", "Calls that have begun."),
            received: counters("grpc_server_msg_received_total", "Messages of clients in calls."),
            sent: counters("grpc_server_msg_sent_total", "Messages to clients in calls."),
            handled: known(IntCounterVec::new(
                Opts::new("grpc_server_handled_total", "Calls that are over, by how they ended."),
                &by_code,
            )),
        };
        for collector in [&this.started, &this.received, &this.sent, &this.handled] {
            let collector = Box::new(collector.clone()) as Box<dyn Collector>;
            registry.register(collector).expect("each name is registered once");
        }
        this
    }

    pub(super) fn of(&self, kind: &str, service: &str, method: &str) -> CallMeter {
        let labels = [kind, service, method];
        CallMeter {
            started: self.started.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            handled: Code::ALL
                .map(|code| self.handled.with_label_values(&[kind, service, method, code.name()])),
        }
    }
}
