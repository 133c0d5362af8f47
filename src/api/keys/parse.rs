//! Request → [`KeysRequest`], or the first thing that is wrong with it.

use http::Method;

use crate::api::keys::form::{Field, Form, is_form};
use crate::model::{KeyPath, PathLimits, Refusal, StoreIndex, Ttl, Value};
use crate::store::{Access, Command, Condition, Intent, Write};

/// A `/v2/keys` request that can no longer be malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeysRequest {
    /// Read a key or list a directory.
    Get {
        /// What to show of a directory.
        listed: Listed,
        /// Not stale.
        quorum: bool,
    },
    /// Wait for a change.
    Watch {
        /// The first index of interest; `None` from now on.
        from: Option<StoreIndex>,
        /// Every change instead of the next one.
        stream: bool,
    },
    /// Change something.
    Write {
        /// What.
        command: Command,
        /// Answer without `node` and `prevNode`.
        terse: bool,
    },
}

/// A request, and what it wants of which key: what it needs the right for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) request: KeysRequest,
    pub(super) access: Access,
}

/// How much of a directory to show. Listings are always sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// All levels.
    pub(super) recursive: bool,
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) method: &'a Method,
    /// Decoded, after `/v2/keys`.
    pub(super) path: &'a [u8],
    pub(super) query: &'a [u8],
    pub(super) content_type: Option<&'a [u8]>,
    /// Read only where [`reads_body`] says so.
    pub(super) body: &'a [u8],
    pub(super) limits: PathLimits,
}

/// Does this method carry its parameters in a body of this type?
///
/// # Errors
/// 210 when the content type is malformed.
pub(super) fn reads_body(method: &Method, content_type: Option<&[u8]>) -> Result<bool, Refusal> {
    if matches!(*method, Method::PUT | Method::POST) { is_form(content_type) } else { Ok(false) }
}

/// Checks everything in the order that decides which error a client sees.
///
/// Source of the order: etcd 3.4 `parseKeyRequest`, observed on 3.4.23.
pub(super) fn parse(raw: &Raw<'_>) -> Result<Parsed, Refusal> {
    let mut form = Form::default();
    let from_body = match reads_body(raw.method, raw.content_type) {
        Ok(true) => form.read(raw.body),
        Ok(false) => Ok(()),
        Err(refusal) => Err(refusal),
    };
    let from_query = form.read(raw.query);
    from_body?;
    from_query?;

    let prev_index = number(&form.prev_index, "prevIndex")?;
    let wait_index = number(&form.wait_index, "waitIndex")?;
    let recursive = flag(&form.recursive, "\"recursive\"")?.unwrap_or(false);
    flag(&form.sorted, "\"sorted\"")?;
    let wait = flag(&form.wait, "\"wait\"")?.unwrap_or(false);
    let dir = flag(&form.dir, "\"dir\"")?.unwrap_or(false);
    let quorum = flag(&form.quorum, "\"quorum\"")?.unwrap_or(false);
    let stream = flag(&form.stream, "\"stream\"")?.unwrap_or(false);
    if wait && raw.method != Method::GET {
        let cause = "\"wait\" can only be used with GET requests".to_owned();
        return Err(Refusal::InvalidField { cause });
    }
    if form.prev_value.as_ref().is_some_and(|value| value.is_empty()) {
        return Err(Refusal::PrevValueRequired);
    }
    let terse = flag(&form.no_value_on_success, "\"noValueOnSuccess\"")?.unwrap_or(false);
    let ttl = lifetime(&form.ttl)?;
    let prev_exist = flag(&form.prev_exist, "prevExist")?;
    let refresh = flag(&form.refresh, "refresh")?.unwrap_or(false);
    if refresh && form.value.as_ref().is_some_and(|value| !value.is_empty()) {
        return Err(Refusal::ValueOnRefresh);
    }
    if refresh && ttl.is_none() {
        return Err(Refusal::TtlRequiredOnRefresh);
    }

    let path = KeyPath::clean(raw.path);
    if let Some(cause) = path.exceeds(raw.limits) {
        return Err(Refusal::InvalidField { cause });
    }
    let reads = matches!(*raw.method, Method::GET | Method::HEAD);
    let access = Access {
        path: path.clone(),
        slash: raw.path.last() == Some(&b'/'),
        recursive,
        intent: match *raw.method {
            Method::GET | Method::HEAD => Intent::Read,
            Method::POST => Intent::WriteBelow,
            Method::DELETE if dir || recursive => Intent::RemoveAny,
            _ => Intent::Write,
        },
    };
    if *raw.method == Method::GET && wait && !quorum {
        let from = Some(StoreIndex(wait_index)).filter(|index| index.0 > 0);
        let request = KeysRequest::Watch { from, stream };
        return Ok(Parsed { request, access });
    }
    if reads {
        let quorum = quorum && *raw.method == Method::GET;
        let request = KeysRequest::Get { listed: Listed { recursive }, quorum };
        return Ok(Parsed { request, access });
    }
    let write = Write { value: copied(form.value.as_deref()), dir, ttl, refresh };
    let condition = Condition {
        value: form.prev_value.as_deref().map(Value::from),
        index: StoreIndex(prev_index),
    };
    let compares = condition.value.is_some() || condition.index.0 > 0;
    let command = match *raw.method {
        Method::POST => Command::CreateInOrder { dir: path, write },
        Method::DELETE if compares => Command::CompareAndDelete { path, condition },
        Method::DELETE => Command::Delete { path, dir, recursive },
        _ => match prev_exist {
            Some(false) => Command::Create { path, write },
            Some(true) | None if compares => Command::CompareAndSwap { path, write, condition },
            Some(true) => Command::Update { path, write },
            None => Command::Set { path, write },
        },
    };
    Ok(Parsed { request: KeysRequest::Write { command, terse }, access })
}

/// A copy, so that the log and the tree do not keep the connection's read buffer alive.
fn copied(value: Option<&[u8]>) -> Value {
    Value::from(value.unwrap_or_default())
}

fn number(field: &Field<'_>, name: &'static str) -> Result<u64, Refusal> {
    let Some(text) = field else { return Ok(0) };
    digits(text).ok_or(Refusal::IndexNotANumber { field: name })
}

fn lifetime(field: &Field<'_>) -> Result<Option<Ttl>, Refusal> {
    let Some(text) = field.as_ref().filter(|text| !text.is_empty()) else { return Ok(None) };
    digits(text).and_then(Ttl::from_s).map(Some).ok_or(Refusal::TtlNotANumber)
}

/// Decimal digits and nothing else.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn flag(field: &Field<'_>, shown: &str) -> Result<Option<bool>, Refusal> {
    let Some(text) = field else { return Ok(None) };
    match &**text {
        b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Ok(Some(true)),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Ok(Some(false)),
        _ => Err(Refusal::InvalidField { cause: format!("invalid value for {shown}") }),
    }
}
