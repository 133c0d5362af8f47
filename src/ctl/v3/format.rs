//! Answers → text, JSON, fields, protobuf.
//!
//! Owns: how every answer looks in every format. Never knows: where answers come from.

use std::fmt::Write as _;

use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::v3::{code, error, go};
use crate::rpc::encoded;
use crate::rpc::json::write_go;
use crate::rpc::{
    DeleteRangeResponse, KeyValue, Message, PutResponse, RangeResponse, Response, ResponseHeader,
    TxnResponse,
};

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum Format {
    /// For people.
    Simple,
    /// As Go writes its structures as JSON.
    Json,
    /// Name and value, each pair on a line.
    Fields,
    /// As a table.
    Table,
    /// As on the wire.
    Protobuf,
}

impl Format {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "simple" => Self::Simple,
            "json" => Self::Json,
            "fields" => Self::Fields,
            "table" => Self::Table,
            "protobuf" => Self::Protobuf,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Json => "json",
            Self::Fields => "fields",
            Self::Table => "table",
            Self::Protobuf => "protobuf",
        }
    }

    /// What the tool says where a command has no such form.
    pub(in crate::ctl) fn unsupported(self) -> Failure {
        error(code::BAD_FEATURE, format!("{} not supported as output format", self.name()))
    }
}

/// Writes answers.
#[derive(Clone, Copy, Debug)]
pub(in crate::ctl) struct Printer {
    pub(in crate::ctl) format: Format,
    /// Keys and values are shown as numbers.
    hex: bool,
    /// Keys are not shown.
    pub(in crate::ctl) values_only: bool,
}

/// The head of an answer as fields.
pub(in crate::ctl) fn head(text: &mut String, header: Option<&ResponseHeader>) {
    let head = header.cloned().unwrap_or_default();
    let _ = write!(
        text,
        "\"ClusterID\" : {}\n\"MemberID\" : {}\n\"Revision\" : {}\n\"RaftTerm\" : {}\n",
        head.cluster_id, head.member_id, head.revision, head.raft_term
    );
}

/// The head of an answer as members of a JSON object, each with a comma behind.
pub(in crate::ctl) fn head_members(header: Option<&ResponseHeader>) -> String {
    let mut text = String::new();
    let json = header.map(write_go).unwrap_or_default();
    let json = String::from_utf8_lossy(&json);
    let inside = json.trim_matches(['{', '}']);
    if !inside.is_empty() {
        let _ = write!(text, "{inside},");
    }
    text
}

/// A key with everything that is known of it, as fields.
fn key_fields(text: &mut String, before: &str, kv: &KeyValue) {
    let _ = write!(
        text,
        "\"{before}Key\" : {}\n\"{before}CreateRevision\" : {}\n\"{before}ModRevision\" : {}\n\
         \"{before}Version\" : {}\n\"{before}Value\" : {}\n\"{before}Lease\" : {}\n",
        go::quoted(&kv.key),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        go::quoted(&kv.value),
        kv.lease
    );
}

impl Printer {
    /// Of this format.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(in crate::ctl) fn new(format: &str, hex: bool) -> Result<Self, Failure> {
        let format = Format::named(format)
            .ok_or_else(|| error(code::BAD_FEATURE, "unsupported output format"))?;
        Ok(Self { format, hex, values_only: false })
    }

    /// An answer of which the head is all that the fields show.
    ///
    /// # Errors
    /// When it has no such form, or cannot be written.
    pub(in crate::ctl) fn plain<M: Message>(
        &self,
        answer: &M,
        header: Option<&ResponseHeader>,
        simple: &str,
    ) -> Result<(), Failure> {
        self.answer(answer, simple.as_bytes(), |text| {
            head(text, header);
            true
        })
    }

    /// An answer: `simple` as it is for people, `fields` appends its fields; `false` says that there are none.
    ///
    /// # Errors
    /// As [`Printer::plain`].
    pub(in crate::ctl) fn answer<M: Message>(
        &self,
        answer: &M,
        simple: &[u8],
        fields: impl FnOnce(&mut String) -> bool,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => print::out_bytes(simple),
            Format::Json => self.json(answer),
            Format::Fields => {
                let mut text = String::new();
                match fields(&mut text) {
                    true => print::out(&text),
                    false => Err(self.format.unsupported()),
                }
            }
            Format::Protobuf => print::out_bytes(&encoded(answer)),
            Format::Table => Err(self.format.unsupported()),
        }
    }

    /// An answer as JSON on a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::ctl) fn json<M: Message>(&self, answer: &M) -> Result<(), Failure> {
        let mut line = write_go(answer);
        line.push(b'\n');
        print::out_bytes(&line)
    }

    /// A message as on the wire.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::ctl) fn protobuf(&self, message: &impl Message) -> Result<(), Failure> {
        print::out_bytes(&encoded(message))
    }

    fn bytes(&self, text: &mut Vec<u8>, bytes: &[u8]) {
        match self.hex {
            true => bytes
                .iter()
                .for_each(|byte| text.extend_from_slice(format!("\\x{byte:02x}").as_bytes())),
            false => text.extend_from_slice(bytes),
        }
        text.push(b'\n');
    }

    /// A key and its value for people.
    pub(in crate::ctl) fn key(&self, text: &mut Vec<u8>, kv: &KeyValue) {
        if !self.values_only {
            self.bytes(text, &kv.key);
        }
        self.bytes(text, &kv.value);
    }

    /// What happened to a key, for people.
    pub(in crate::ctl) fn event(&self, text: &mut Vec<u8>, event: &crate::rpc::Event) {
        text.extend_from_slice(kind(event).as_bytes());
        text.push(b'\n');
        if let Some(before) = &event.prev_kv {
            self.key(text, before);
        }
        self.key(text, &event.kv.clone().unwrap_or_default());
    }

    fn simple_range(&self, text: &mut Vec<u8>, answer: &RangeResponse) {
        answer.kvs.iter().for_each(|kv| self.key(text, kv));
    }

    fn simple_put(&self, text: &mut Vec<u8>, answer: &PutResponse) {
        text.extend_from_slice(b"OK\n");
        answer.prev_kv.iter().for_each(|kv| self.key(text, kv));
    }

    fn simple_delete(&self, text: &mut Vec<u8>, answer: &DeleteRangeResponse) {
        text.extend_from_slice(format!("{}\n", answer.deleted).as_bytes());
        answer.prev_kvs.iter().for_each(|kv| self.key(text, kv));
    }

    /// What a range holds.
    ///
    /// # Errors
    /// As [`Printer::plain`].
    pub(in crate::ctl) fn range(&self, answer: &RangeResponse) -> Result<(), Failure> {
        let mut simple = Vec::new();
        self.simple_range(&mut simple, answer);
        self.answer(answer, &simple, |text| {
            range_fields(text, answer);
            true
        })
    }

    /// What a write came to.
    ///
    /// # Errors
    /// As [`Printer::plain`].
    pub(in crate::ctl) fn put(&self, answer: &PutResponse) -> Result<(), Failure> {
        let mut simple = Vec::new();
        self.simple_put(&mut simple, answer);
        self.answer(answer, &simple, |text| {
            put_fields(text, answer);
            true
        })
    }

    /// What was deleted.
    ///
    /// # Errors
    /// As [`Printer::plain`].
    pub(in crate::ctl) fn delete(&self, answer: &DeleteRangeResponse) -> Result<(), Failure> {
        let mut simple = Vec::new();
        self.simple_delete(&mut simple, answer);
        self.answer(answer, &simple, |text| {
            delete_fields(text, answer);
            true
        })
    }

    /// What a transaction came to.
    ///
    /// # Errors
    /// As [`Printer::plain`].
    pub(in crate::ctl) fn txn(&self, answer: &TxnResponse) -> Result<(), Failure> {
        let mut simple = Vec::new();
        simple.extend_from_slice(if answer.succeeded { b"SUCCESS\n" } else { b"FAILURE\n" });
        for response in &answer.responses {
            simple.push(b'\n');
            match &response.response {
                Some(Response::Range(answer)) => self.simple_range(&mut simple, answer),
                Some(Response::Put(answer)) => self.simple_put(&mut simple, answer),
                Some(Response::DeleteRange(answer)) => self.simple_delete(&mut simple, answer),
                Some(Response::Txn(_)) | None => {}
            }
        }
        self.answer(answer, &simple, |text| {
            head(text, answer.header.as_ref());
            let _ = writeln!(text, "\"Succeeded\" : {}", answer.succeeded);
            for response in &answer.responses {
                match &response.response {
                    Some(Response::Range(answer)) => range_fields(text, answer),
                    Some(Response::Put(answer)) => put_fields(text, answer),
                    Some(Response::DeleteRange(answer)) => delete_fields(text, answer),
                    Some(Response::Txn(_)) | None => {}
                }
            }
            true
        })
    }
}

/// How an event is called.
pub(in crate::ctl) fn kind(event: &crate::rpc::Event) -> &'static str {
    if event.kind == crate::rpc::EventType::Delete as i32 { "DELETE" } else { "PUT" }
}

/// What happened to keys, as fields.
pub(in crate::ctl) fn event_fields(text: &mut String, events: &[crate::rpc::Event]) {
    for event in events {
        let _ = writeln!(text, "\"Type\" : {}", kind(event));
        if let Some(before) = &event.prev_kv {
            key_fields(text, "Prev", before);
        }
        key_fields(text, "", &event.kv.clone().unwrap_or_default());
    }
}

fn range_fields(text: &mut String, answer: &RangeResponse) {
    head(text, answer.header.as_ref());
    answer.kvs.iter().for_each(|kv| key_fields(text, "", kv));
    let _ = write!(text, "\"More\" : {}\n\"Count\" : {}\n", answer.more, answer.count);
}

fn put_fields(text: &mut String, answer: &PutResponse) {
    head(text, answer.header.as_ref());
    answer.prev_kv.iter().for_each(|kv| key_fields(text, "Prev", kv));
}

fn delete_fields(text: &mut String, answer: &DeleteRangeResponse) {
    head(text, answer.header.as_ref());
    let _ = writeln!(text, "\"Deleted\" : {}", answer.deleted);
    answer.prev_kvs.iter().for_each(|kv| key_fields(text, "Prev", kv));
}
