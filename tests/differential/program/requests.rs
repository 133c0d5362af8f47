//! Requests at random.

use crate::escape::{escaped, escaped_all, unescaped};
use crate::pair::{FORM_MAX, TTL_MAX};
use crate::program::Program;
use crate::support::http::Request;

impl Program {
    /// A key of the small alphabet, not escaped.
    pub(super) fn plain_key(&mut self) -> String {
        const PARTS: [&str; 9] = ["a", "b", "d", "dx", "_h", "ü", "e f", "0", "q\"<"];
        // What is no UTF-8 shows up as U+FFFD: that is not the key.
        let real = |key: &&String| !key.contains('\u{fffd}');
        let known: Vec<&String> = self.pair.events.nodes.keys().filter(real).collect();
        if !known.is_empty() && self.rng.chance(45) {
            return (*self.rng.pick(&known)).clone();
        }
        let depth = 1 + self.rng.below(3);
        (0..depth)
            .map(|_| {
                // The first letters come more often, so that paths meet.
                let end = if self.rng.chance(70) { 4 } else { PARTS.len() };
                format!("/{}", self.rng.pick(&PARTS[..end]))
            })
            .collect()
    }

    /// The path of a request to a key: escaped, sometimes in an odd way.
    pub(super) fn path(&mut self) -> String {
        let key = escaped(&self.plain_key());
        match self.rng.below(40) {
            0 => "/v2/keys/".to_owned(),
            1 => "/v2/keys".to_owned(),
            2 | 3 => format!("/v2/keys{key}/"),
            4 => format!("/v2/keys/{key}"),
            5 => format!("/v2/keys{}", key.replace('/', "%2F")),
            6 => format!("/v2/keys{key}/../b"),
            7 => format!("/v2/keys/%61{key}"),
            8 => format!("/v2/keys{key}%00%ff"),
            9 => format!("/v2/keys{key}/."),
            _ => format!("/v2/keys{key}"),
        }
    }

    pub(super) fn value(&mut self) -> String {
        const VALUES: [&str; 8] = ["1", "2", "", "a b", "ü\n", "<&\">", "\u{2028}\u{7f}", "0"];
        (*self.rng.pick(&VALUES)).to_owned()
    }

    /// A path with conditions that hold or do not, as it happens.
    pub(super) fn conditions(&mut self, path: &str, fields: &mut Vec<(&'static str, String)>) {
        let key = unescaped(path.trim_start_matches("/v2/keys"));
        let known = self.pair.events.nodes.get(key.trim_end_matches('/')).cloned();
        let (value, index) = known.unwrap_or_else(|| ("1".to_owned(), 5));
        if self.rng.chance(18) {
            let value = if self.rng.chance(65) { value } else { self.value() };
            fields.push(("prevValue", value));
        }
        if self.rng.chance(15) {
            let index = match self.rng.below(10) {
                0 => 0,
                1 | 2 => index + 1,
                _ => index,
            };
            fields.push(("prevIndex", index.to_string()));
        }
    }

    pub(super) fn put(&mut self) -> Request {
        let path = self.path();
        let mut fields: Vec<(&'static str, String)> = Vec::new();
        if self.rng.chance(75) {
            let value = self.value();
            fields.push(("value", value));
        }
        self.conditions(&path, &mut fields);
        if self.rng.chance(25) {
            let exist = *self.rng.pick(&["true", "true", "false", "1", "F"]);
            fields.push(("prevExist", exist.to_owned()));
        }
        if self.rng.chance(20) {
            let dir = *self.rng.pick(&["true", "true", "1", "false"]);
            fields.push(("dir", dir.to_owned()));
        }
        if self.rng.chance(20) {
            let ttl = 1000 + self.rng.below(1_000_000);
            fields.push(("ttl", if self.rng.chance(8) { String::new() } else { ttl.to_string() }));
        }
        if self.rng.chance(10) {
            fields.push(("refresh", "true".to_owned()));
            if self.rng.chance(90) {
                fields.retain(|(name, _)| *name != "value");
                fields.push(("ttl", (1000 + self.rng.below(100_000)).to_string()));
            }
        }
        let is = |name: &str| fields.iter().any(|(n, _)| *n == name);
        let is_refresh = is("refresh");
        // An index of zero counts as none.
        let has_index = fields
            .iter()
            .any(|(name, text)| *name == "prevIndex" && text.bytes().any(|digit| digit != b'0'));
        if is_refresh && !is("prevExist") && !is("prevValue") && !has_index {
            // With dir=true the two sides would go different ways from here on (improvement 20).
            fields.retain(|(name, _)| *name != "dir");
        }
        // Together with a refresh nothing would tell which key the index belongs to.
        if self.rng.chance(7) && !is_refresh {
            fields.push(("noValueOnSuccess", "true".to_owned()));
        }
        if self.rng.chance(5) {
            let ignored = *self.rng.pick(&["recursive", "sorted", "quorum", "stream"]);
            fields.push((ignored, "true".to_owned()));
        }
        self.with_fields("PUT", &path, &fields)
    }

    /// Fields go into the form or the query, or half of them into each.
    pub(super) fn with_fields(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, String)],
    ) -> Request {
        let how = self.rng.below(10);
        let (mut query, mut form) = (Vec::new(), Vec::new());
        for (name, value) in fields {
            let field = format!("{name}={}", escaped_all(value));
            let into_query = match how {
                0..=5 => false,
                6 | 7 => true,
                _ => self.rng.chance(50),
            };
            if into_query { &mut query } else { &mut form }.push(field);
        }
        let target = match query.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{}", query.join("&")),
        };
        let request = Request::new(method, target);
        if form.is_empty() && self.rng.chance(50) { request } else { request.form(form.join("&")) }
    }

    pub(super) fn post(&mut self) -> Request {
        let path = self.path();
        let value = self.value();
        let mut fields = vec![("value", value)];
        if self.rng.chance(15) {
            fields.push(("dir", "true".to_owned()));
        }
        if self.rng.chance(15) {
            fields.push(("ttl", (1000 + self.rng.below(1000)).to_string()));
        }
        if self.rng.chance(10) {
            fields.push(("noValueOnSuccess", "true".to_owned()));
        }
        self.with_fields("POST", &path, &fields)
    }

    pub(super) fn delete(&mut self) -> Request {
        let path = self.path();
        let mut fields = Vec::new();
        self.conditions(&path, &mut fields);
        if self.rng.chance(30) {
            fields.push(("dir", "true".to_owned()));
        }
        if self.rng.chance(35) {
            fields.push(("recursive", "true".to_owned()));
        }
        if self.rng.chance(5) {
            fields.push(("noValueOnSuccess", "true".to_owned()));
        }
        let query: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", escaped_all(value))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let request = Request::new("DELETE", format!("{path}{mark}{}", query.join("&")));
        // A form is not looked at.
        if self.rng.chance(5) { request.form("recursive=true&prevValue=no") } else { request }
    }

    pub(super) fn get(&mut self) -> Request {
        let path = self.path();
        let mut fields = Vec::new();
        for (name, chance) in [("recursive", 45), ("sorted", 50), ("quorum", 15)] {
            if self.rng.chance(chance) {
                fields.push(format!("{name}={}", self.rng.pick(&["true", "true", "1", "t", "0"])));
            }
        }
        if self.rng.chance(3) {
            // The first `quorum` counts: without it this would be a watch, and never end.
            fields.insert(0, "wait=true&quorum=true".to_owned());
        }
        if self.rng.chance(3) {
            fields.push("waitIndex=3&stream=true&unknown=1".to_owned());
        }
        let mark = if fields.is_empty() { "" } else { "?" };
        let method = if self.rng.chance(12) { "HEAD" } else { "GET" };
        let mut request = Request::new(method, format!("{path}{mark}{}", fields.join("&")));
        if request.method == "HEAD" {
            let target = String::from_utf8_lossy(&request.target).replace("wait=true", "x=1");
            request.target = target.into_bytes();
        }
        request
    }

    /// A request that is wrong somewhere.
    pub(super) fn bad(&mut self) -> Request {
        const FIELDS: [&str; 27] = [
            "recursive=x",
            "sorted=",
            "wait=yes",
            "dir=TrUe",
            "quorum=2",
            "stream=-1",
            "wait",
            "prevIndex=",
            "prevIndex=-1",
            "prevIndex=18446744073709551616",
            "waitIndex=1e3",
            "prevValue=",
            "noValueOnSuccess=on",
            "ttl=-1",
            "ttl=1.5",
            "ttl=%20",
            "ttl=18446744073709551616",
            "prevExist=",
            "prevExist=maybe",
            "refresh=maybe",
            "refresh=true",
            "refresh=true&value=1&ttl=50",
            "refresh=true&ttl=",
            "a=%zz",
            "%q=1",
            "recursive=true;sorted=true",
            "value=%",
        ];
        const TYPES: [&str; 7] = [
            "text/plain",
            "multipart/form-data",
            "application",
            "a/b/c",
            "text plain",
            "APPLICATION/X-WWW-FORM-URLENCODED ; charset=utf-8",
            "x; charset",
        ];
        let path = self.path();
        let method = *self.rng.pick(&["GET", "PUT", "POST", "DELETE", "HEAD", "PUT"]);
        let mut fields = vec![*self.rng.pick(&FIELDS)];
        if self.rng.chance(50) {
            fields.push(*self.rng.pick(&FIELDS));
        }
        match self.rng.below(12) {
            0 => {
                const METHODS: [&str; 4] = ["PATCH", "get", "OPTIONS", "FOO"];
                Request::new(self.rng.pick::<&str>(&METHODS), path)
            }
            1 => Request::new(method, format!("/v2/keys/%{}", self.rng.pick(&["zz", "4", ""]))),
            2 | 3 if method != "HEAD" => {
                let kind = *self.rng.pick(&TYPES);
                Request::new(method, path).header("Content-Type", kind).body("value=7")
            }
            4 | 5 if method == "PUT" || method == "POST" => {
                Request::new(method, path).form(fields.join("&"))
            }
            6 => Request::new("PUT", format!("{path}?wait=true")),
            _ => Request::new(method, format!("{path}?{}", fields.join("&"))),
        }
    }

    /// A request that has nothing to do with keys.
    pub(super) fn elsewhere(&mut self) -> Request {
        const TARGETS: [&str; 16] = [
            "GET /v2/members",
            "GET /v2/members/",
            "GET /v2/members/leader",
            "GET /v2/members/xyz",
            "HEAD /v2/members",
            "PUT /v2/members",
            "GET /v2/machines",
            "GET /v2/stats/leader",
            "GET /v2/stats/",
            "GET /version/",
            "GET /v2",
            "GET /",
            "GET /v2/keysfoo",
            "GET /health",
            "POST /v2/stats/store",
            "DELETE /v2/members/1234",
        ];
        if self.rng.chance(15) {
            let body = *self.rng.pick(&["{", "[]", "x", "{}", r#"{"peerURLs":["ftp://a:1"]}"#]);
            let request = Request::new("POST", "/v2/members");
            return request.header("Content-Type", "application/json").body(body);
        }
        let (method, target) = self.rng.pick(&TARGETS).split_once(' ').unwrap_or_default();
        Request::new(method, target)
    }

    pub(super) fn watched_key(&mut self) -> String {
        match self.rng.below(12) {
            0 => "/".to_owned(),
            1 => "/d".to_owned(),
            2 => self.plain_key() + "/",
            _ => self.plain_key(),
        }
    }

    /// The last thing of a program: after it the two sides may have gone different ways.
    pub(super) fn parting_shot(&mut self) -> Result<(), String> {
        let long = "x".repeat(5000);
        let request = match self.rng.below(5) {
            0 => Request::new("PUT", "/v2/keys/parting").form(format!("ttl={}", TTL_MAX + 1)),
            1 => Request::new("PUT", format!("/v2/keys/parting?value={long}")),
            2 => Request::get(&format!("/v2/keys/{long}")),
            3 => {
                self.ask(&Request::new("PUT", "/v2/keys/parting").form("value=1"))?;
                Request::new("PUT", "/v2/keys/parting?refresh=true&dir=true&ttl=500")
            }
            _ => Request::new("PUT", "/v2/keys/parting")
                .form([b"value=".to_vec(), vec![b'x'; FORM_MAX]].concat()),
        };
        self.ask(&request)?;
        self.tally.count("parting shot");
        Ok(())
    }
}
