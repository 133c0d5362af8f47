//! The bytes of requests, made once: what differs from one to the next are digits in known places.
//!
//! Owns: how a request is written. Never knows: which are sent, and when.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Digits of a number in a key.
pub(super) const KEY_DIGITS: usize = 10;
/// Digits of a number of nanoseconds.
pub(super) const STAMP_DIGITS: usize = 20;

/// What all requests of a connection have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// Headers behind the first line, each with its end.
    headers: String,
    /// The directory of all keys.
    prefix: String,
}

impl Common {
    /// `user` is `name:password`.
    pub(super) fn new(host: &str, user: Option<&str>, prefix: &str) -> Self {
        let signed = user.map(|user| format!("Authorization: Basic {}\r\n", STANDARD.encode(user)));
        let headers = format!("Host: {host}\r\n{}", signed.unwrap_or_default());
        Self { headers, prefix: prefix.to_owned() }
    }

    /// A request for one key, or one of many: the number of the key is zero at first. `directory` is below the prefix.
    pub(super) fn numbered(
        &self,
        method: &str,
        directory: &str,
        query: &str,
        form: Option<&[u8]>,
    ) -> Template {
        let mut bytes = format!("{method} /v2/keys{}/{directory}/", self.prefix).into_bytes();
        let key = bytes.len()..bytes.len() + KEY_DIGITS;
        bytes.extend_from_slice(&[b'0'; KEY_DIGITS]);
        bytes.extend_from_slice(query.as_bytes());
        self.finish(&mut bytes, form);
        Template { bytes, key }
    }

    /// A request for something of which there is one.
    pub(super) fn single(&self, method: &str, path: &str, query: &str) -> Vec<u8> {
        let mut bytes = format!("{method} /v2/keys{}{path}{query}", self.prefix).into_bytes();
        self.finish(&mut bytes, None);
        bytes
    }

    fn finish(&self, bytes: &mut Vec<u8>, form: Option<&[u8]>) {
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        bytes.extend_from_slice(self.headers.as_bytes());
        if let Some(form) = form {
            let length = form.len();
            let head = format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n"
            );
            bytes.extend_from_slice(head.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(form.unwrap_or_default());
    }
}

/// A request with a number in its key.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    key: Range<usize>,
}

impl Template {
    /// The request for the key with this number.
    pub(super) fn of(&mut self, number: u64) -> &[u8] {
        write_digits(&mut self.bytes[self.key.clone()], number);
        &self.bytes
    }

    /// The same, with these nanoseconds where its form begins with a stamp behind `value=`; see [`stamped`].
    pub(super) fn stamped(&mut self, number: u64, nanoseconds: u64, form_bytes: usize) -> &[u8] {
        let form = self.bytes.len() - form_bytes + b"value=".len();
        write_digits(&mut self.bytes[form..form + STAMP_DIGITS], nanoseconds);
        self.of(number)
    }
}

/// A form with a value of so many bytes.
pub(super) fn value(bytes: usize) -> Vec<u8> {
    [&b"value="[..], &vec![b'x'; bytes]].concat()
}

/// A form whose value begins with room for a stamp, and is no shorter than that.
pub(super) fn stamped(bytes: usize) -> Vec<u8> {
    value(bytes.max(STAMP_DIGITS))
}

/// Writes a number with zeros in front.
pub(super) fn write_digits(place: &mut [u8], number: u64) {
    let mut left = number;
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_differs_in_its_digits_alone() {
        let common = Common::new("a:1", Some("root:pass"), "/bench");
        let form = stamped(3);
        let mut put = common.numbered("PUT", "keys", "?prevExist=true", Some(&form));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            text(put.stamped(9_876_543_210, 12, form.len())),
            "PUT /v2/keys/bench/keys/9876543210?prevExist=true HTTP/1.1\r\nHost: a:1\r\nAuthorization: Basic cm9vdDpwYXNz\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 26\r\n\r\nvalue=00000000000000000012"
        );
        assert!(text(put.of(7)).starts_with("PUT /v2/keys/bench/keys/0000000007?"));
    }

    #[test]
    fn without_a_form_there_is_no_body() {
        let common = Common::new("a:1", None, "/p");
        let get = common.single("GET", "/listing", "?quorum=true");
        assert_eq!(get, b"GET /v2/keys/p/listing?quorum=true HTTP/1.1\r\nHost: a:1\r\n\r\n");
    }
}
