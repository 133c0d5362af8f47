//! Requests of the key space that come whole, without credentials or an `Origin`: read where they stand, without the HTTP library's types.
//!
//! Owns: which requests can be read so. Whatever this does not take is read, judged and answered in the other way, which knows all
//! of them; so there is no answer here that says what is wrong with a request.

use std::sync::Arc;

use http::Method;

use crate::api::access::Anonymous;
use crate::api::context::Context;
use crate::api::error;
use crate::api::keys;
use crate::api::keys::answer::Answer;
use crate::api::keys::parse::{self, Parsed, Raw};
use crate::api::keys::serve::{self, Read};
use crate::api::metrics::MethodLabel;
use crate::api::path;
use crate::model::Unavailable;

/// A request that came whole, as far as anything here looks at it. It has neither credentials nor an `Origin`.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// One that `/v2/keys` has.
    pub method: &'a Method,
    /// Path and query, as they stand in the request.
    pub target: &'a [u8],
    /// The only one.
    pub host: &'a [u8],
    /// Of the body, if there is one.
    pub content_type: Option<&'a [u8]>,
    /// All of it.
    pub body: &'a [u8],
}

/// A request of the key space that was understood. It holds what it takes of the member's budget.
pub struct Asked {
    label: MethodLabel,
    /// Or the budget has no room for it.
    read: Result<Read<Anonymous>, Unavailable>,
}

impl Asked {
    /// Reads a request; `None` if it has to be served in the other way.
    pub(in crate::api) fn read(api: &Context, plain: &Plain<'_>) -> Option<Self> {
        let (whole_path, query) = match plain.target.iter().position(|byte| *byte == b'?') {
            Some(at) => (&plain.target[..at], &plain.target[at + 1..]),
            None => (plain.target, &[][..]),
        };
        // An escape would have to be undone first.
        let path = keys::below(whole_path).filter(|path| !path.contains(&b'%'))?;
        if path::redirect(whole_path).is_some() {
            return None;
        }
        let label = MethodLabel::of(plain.method)?;
        let reads_body = parse::reads_body(plain.method, plain.content_type).ok()?;
        let bytes = match plain.method {
            &Method::GET => None,
            _ if reads_body => Some(plain.body.len() + query.len()),
            // The log says that its body was not read.
            &Method::PUT | &Method::POST if !plain.body.is_empty() => return None,
            _ => Some(query.len()),
        };
        let settings = &api.settings;
        if reads_body && plain.body.len() > settings.body_bytes_max {
            return None;
        }
        let raw = Raw {
            method: plain.method,
            path,
            query,
            content_type: plain.content_type,
            body: plain.body,
            limits: settings.path,
        };
        let Parsed { request, access } = parse::parse(&raw).ok()?;
        let held = bytes.map(|bytes| api.replica.budget().reserve(bytes).map(Arc::new)).transpose();
        let read = held.map(|held| Read { request, access, credentials: Anonymous, held });
        Some(Self { label, read })
    }

    /// Does what is asked.
    pub(in crate::api) async fn answer(self, api: &Context) -> Answer {
        match self.read {
            Ok(read) => serve::answer(api, self.label, read).await,
            Err(why) => Answer::Other(error::unavailable(why)),
        }
    }
}
