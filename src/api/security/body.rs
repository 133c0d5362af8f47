//! Bodies of requests → users and roles.
//!
//! As Go reads them: the first value counts and what follows it is not looked at; names of fields are the same in any case, the
//! last one of several counts; unknown fields and `null` count as not given.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::store::Permissions;

/// What a body is that cannot be read.
pub(super) const INVALID: &str = "Invalid JSON in request body.";

/// A user as a client gives it. It has no `Debug`, so that the password gets into no log.
#[derive(Default)]
pub(super) struct GivenUser {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) roles: Option<Vec<String>>,
    pub(super) grant: Vec<String>,
    pub(super) revoke: Vec<String>,
}

/// A role as a client gives it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GivenRole {
    pub(super) name: String,
    pub(super) permissions: Permissions,
    pub(super) grant: Option<Permissions>,
    pub(super) revoke: Option<Permissions>,
}

impl GivenUser {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let fields = first_object(body)?;
        Some(Self {
            name: text(&fields, "user")?,
            password: text(&fields, "password")?,
            roles: texts(&fields, "roles")?,
            grant: texts(&fields, "grant")?.unwrap_or_default(),
            revoke: texts(&fields, "revoke")?.unwrap_or_default(),
        })
    }
}

impl GivenRole {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let fields = first_object(body)?;
        Some(Self {
            name: text(&fields, "role")?,
            permissions: permissions(&fields, "permissions")?.unwrap_or_default(),
            grant: permissions(&fields, "grant")?,
            revoke: permissions(&fields, "revoke")?,
        })
    }
}

/// A JSON value as far as it matters here.
enum Json {
    Null,
    Text(String),
    List(Vec<Json>),
    Object(Fields),
    /// Numbers and booleans: nothing here may be one.
    Other,
}

type Fields = Vec<(String, Json)>;

/// The first value, which must be an object or `null`. Bytes that are not UTF-8 are replaced, as in Go.
fn first_object(body: &[u8]) -> Option<Fields> {
    let body = String::from_utf8_lossy(body);
    let first = serde_json::Deserializer::from_str(&body).into_iter::<Json>().next();
    match first?.ok()? {
        Json::Null => Some(Vec::new()),
        Json::Object(fields) => Some(fields),
        Json::Text(_) | Json::List(_) | Json::Other => None,
    }
}

fn field<'a>(fields: &'a Fields, name: &str) -> &'a Json {
    let named = |(field, value): &(String, Json)| {
        field.eq_ignore_ascii_case(name) && !matches!(value, Json::Null)
    };
    fields.iter().rfind(|field| named(field)).map_or(&Json::Null, |(_, value)| value)
}

fn text(fields: &Fields, name: &str) -> Option<String> {
    match field(fields, name) {
        Json::Null => Some(String::new()),
        Json::Text(text) => Some(text.clone()),
        Json::List(_) | Json::Object(_) | Json::Other => None,
    }
}

fn texts(fields: &Fields, name: &str) -> Option<Option<Vec<String>>> {
    let text = |value: &Json| match value {
        Json::Null => Some(String::new()),
        Json::Text(text) => Some(text.clone()),
        Json::List(_) | Json::Object(_) | Json::Other => None,
    };
    match field(fields, name) {
        Json::Null => Some(None),
        Json::List(list) => list.iter().map(text).collect::<Option<_>>().map(Some),
        Json::Text(_) | Json::Object(_) | Json::Other => None,
    }
}

fn object<'a>(fields: &'a Fields, name: &str) -> Option<Option<&'a Fields>> {
    match field(fields, name) {
        Json::Null => Some(None),
        Json::Object(inner) => Some(Some(inner)),
        Json::Text(_) | Json::List(_) | Json::Other => None,
    }
}

fn permissions(fields: &Fields, name: &str) -> Option<Option<Permissions>> {
    let Some(outer) = object(fields, name)? else { return Some(None) };
    let Some(lists) = object(outer, "kv")? else { return Some(Some(Permissions::default())) };
    Some(Some(Permissions { read: texts(lists, "read")?, write: texts(lists, "write")? }))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(body: &str) -> Option<(String, String, Option<Vec<String>>)> {
        GivenUser::read(body.as_bytes()).map(|user| (user.name, user.password, user.roles))
    }

    #[test]
    fn fields_are_found_in_any_case_and_the_last_one_counts() {
        let body = r#"{"USER":"a","user":"b","Password":"p","x":{"user":1},"password":null} tail"#;
        assert_eq!(user(body), Some(("b".into(), "p".into(), None)));
        assert_eq!(user("null"), Some(<_>::default()));
        assert_eq!(user(r#"{"roles":[]}"#).unwrap().2, Some(vec![]));
        assert_eq!(user(r#"{"roles":["a",null]}"#).unwrap().2, Some(vec!["a".into(), "".into()]));
    }

    #[test]
    fn what_is_not_of_this_shape_is_refused() {
        for body in [
            "",
            "x",
            "[1]",
            "1",
            "\"a\"",
            "{",
            "{\"user\":5}",
            "{\"user\":[]}",
            "{\"roles\":\"a\"}",
            "{\"roles\":[1]}",
            "{\"password\":true}",
            "{\"grant\":{}}",
            "{\"user\":\"a\"",
        ] {
            assert_eq!(user(body), None, "{body}");
        }
    }

    #[test]
    fn a_role_has_lists_that_may_be_missing() {
        let body = r#"{"role":"r","permissions":{"KV":{"read":["/a"]}},"grant":{"kv":{"read":[],"write":null}}}"#;
        let some = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect());
        let wanted = GivenRole {
            name: "r".into(),
            permissions: Permissions { read: some(&["/a"]), write: None },
            grant: Some(Permissions { read: some(&[]), write: None }),
            revoke: None,
        };
        assert_eq!(GivenRole::read(body.as_bytes()), Some(wanted));
        assert_eq!(GivenRole::read(br#"{"role":"r","grant":{"kv":[]}}"#), None);
        assert_eq!(GivenRole::read(br#"{"role":"r","revoke":[]}"#), None);
    }
}
