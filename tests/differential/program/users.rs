//! Users, roles and rights: random changes of them, and requests of everybody to the same few keys.
//!
//! Left out is only what would lead the two sides apart for good, because they differ on purpose there: writes to keys with a slash
//! behind them, recursive deletes of guests, empty patterns, and names that start with `_`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::difference::{asks_sorted, difference};
use crate::program::Program;
use crate::support::http::{Reply, Request};
use crate::support::json::Json;

const USERS: [&str; 4] = ["root", "bob", "eve", "ü x"];
const ROLES: [&str; 6] = ["root", "guest", "r", "s", "a b", "missing"];
const KEYS: [&str; 6] = ["/a", "/a/b", "/ab", "/a/b/c", "/b", ""];
const PATTERNS: [&str; 12] =
    ["/a", "/a*", "/a/*", "/a/", "/*", "*", "/a/b", "/b", "/a/b*", "/", "a*", "/a*b"];

impl Program {
    /// Runs so many operations. Most of the time goes into etcd's bcrypt.
    pub(crate) fn run_users(&mut self, ops: u64) -> Result<(), String> {
        for number in 0..ops {
            let request = match self.rng.below(100) {
                0..=3 => self.switch(),
                4..=21 => self.user(),
                22..=39 => self.role(),
                40..=49 => self.look(),
                _ => self.key(),
            };
            let request = self.signed(request, number);
            self.lines.push(request.to_string());
            let (theirs, ours) = self.pair.ask(&request);
            let (theirs, ours) = match (theirs, ours) {
                (Ok(theirs), Ok(ours)) => (theirs, ours),
                (theirs, ours) => return Err(format!("etcd {theirs:?}, we {ours:?}")),
            };
            self.tally.count(&format!("{} {}", request.method, theirs.status()));
            let sorted = asks_sorted(&request);
            if let Some(found) = difference(&theirs, &ours, sorted) {
                let known = expected(&request, &theirs, &ours);
                self.tally.count(&format!("improvement {}", known.ok_or(found)?));
            }
        }
        Ok(())
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        let picked: &&str = self.rng.pick(from);
        picked
    }

    fn switch(&mut self) -> Request {
        let method = self.pick(&["PUT", "PUT", "PUT", "DELETE", "GET", "HEAD", "POST"]);
        Request::new(method, "/v2/auth/enable")
    }

    fn look(&mut self) -> Request {
        let target = match self.rng.below(6) {
            0 => "users".to_owned(),
            1 => "roles/".to_owned(),
            2 => "enable".to_owned(),
            3 => format!("users/{}", escaped(self.pick(&USERS))),
            4 => format!("roles/{}", escaped(self.pick(&ROLES))),
            _ => self
                .pick(&["users/a/b", "", "x", "users/bob/", "enable/", "roles/a/b/c"])
                .to_owned(),
        };
        let method = self.pick(&["GET", "GET", "GET", "GET", "HEAD", "POST"]);
        Request::new(method, format!("/v2/auth/{target}"))
    }

    /// A list of some of these, in any order, `null`, or nothing.
    fn list(&mut self, field: &str, from: &[&'static str]) -> Option<String> {
        let count = match self.rng.below(10) {
            0..=5 => return None,
            6 => return Some(format!("\"{field}\":null")),
            7 => 0,
            _ => 1 + self.rng.below(3),
        };
        let names: Vec<String> = (0..count).map(|_| format!("{:?}", self.pick(from))).collect();
        Some(format!("\"{field}\":[{}]", names.join(",")))
    }

    fn user(&mut self) -> Request {
        let name = self.pick(&USERS);
        let target = format!("/v2/auth/users/{}", escaped(name));
        if self.rng.chance(12) {
            return Request::new("DELETE", target);
        }
        let named = if self.rng.chance(3) { "other" } else { name };
        let mut fields = vec![format!("{:?}:{named:?}", self.pick(&["user", "user", "USER"]))];
        if self.rng.chance(55) {
            fields.push(format!("\"password\":{:?}", password(name)));
        }
        for field in ["roles", "grant", "revoke"] {
            fields.extend(self.list(field, &ROLES));
        }
        self.with_body(target, &fields)
    }

    fn role(&mut self) -> Request {
        let name = self.pick(&ROLES[..5]);
        let target = format!("/v2/auth/roles/{}", escaped(name));
        if self.rng.chance(12) {
            return Request::new("DELETE", target);
        }
        let named = if self.rng.chance(3) { "other" } else { name };
        let mut fields = vec![format!("\"role\":{named:?}")];
        if self.rng.chance(35) {
            fields.extend(self.permissions("permissions"));
        } else {
            // Without any pattern etcd would keep the field with the role.
            let changes = ["grant", "revoke"].map(|field| self.permissions(field));
            fields.extend(changes.into_iter().flatten().filter(|text| text.contains("[\"")));
        }
        self.with_body(target, &fields)
    }

    fn permissions(&mut self, field: &str) -> Option<String> {
        if self.rng.chance(20) {
            return None;
        }
        let lists = ["read", "write"].map(|list| self.list(list, &PATTERNS));
        let lists: Vec<String> = lists.into_iter().flatten().collect();
        Some(format!("\"{field}\":{{\"kv\":{{{}}}}}", lists.join(",")))
    }

    fn with_body(&mut self, target: String, fields: &[String]) -> Request {
        let body = match self.rng.below(30) {
            0 => "x".to_owned(),
            1 => String::new(),
            2 => format!("{{{}}} and more", fields.join(",")),
            3 => format!("[{{{}}}]", fields.join(",")),
            _ => format!("{{{}}}", fields.join(",")),
        };
        Request::new("PUT", target).body(body)
    }

    fn key(&mut self) -> Request {
        let key = self.pick(&KEYS);
        let reads = self.rng.chance(50);
        let slash = if reads && self.rng.chance(25) { "/" } else { "" };
        let target = format!("/v2/keys{key}{slash}");
        let recursive = if self.rng.chance(30) { "recursive=true" } else { "" };
        if reads {
            let method = self.pick(&["GET", "GET", "GET", "HEAD"]);
            let quorum = if self.rng.chance(20) { "&quorum=true" } else { "" };
            return Request::new(method, format!("{target}?{recursive}{quorum}&sorted=true"));
        }
        if self.rng.chance(25) {
            let dir = if self.rng.chance(50) { "&dir=true" } else { "" };
            return Request::new("DELETE", format!("{target}?{recursive}{dir}"));
        }
        let method = self.pick(&["PUT", "PUT", "PUT", "POST"]);
        let form = match self.rng.below(5) {
            0 if method == "PUT" => "prevValue=no&value=1".to_owned(),
            1 if method == "PUT" => "refresh=true&ttl=100000".to_owned(),
            _ => format!("value={}", self.rng.below(100)),
        };
        Request::new(method, format!("{target}?{recursive}")).form(form)
    }

    /// Whoever asks, mostly root: others cannot change anything.
    fn signed(&mut self, request: Request, number: u64) -> Request {
        let of_keys = request.target.starts_with(b"/v2/keys");
        let basic = |user: &str, password: &str| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        };
        let root = basic("root", &password("root"));
        let header = match self.rng.below(100) {
            0 => self.pick(&["Basic !!!", "Bearer x", "Basic", "Basic dQ==", ""]).to_owned(),
            // Another name each time: wrong passwords for one would take longer and longer.
            1 => basic(&format!("nobody{number}"), "x"),
            2..=4 => return request,
            5..=69 if !of_keys => root,
            5..=24 => root,
            25..=49 => {
                let is_recursive = String::from_utf8_lossy(&request.target).contains("recursive");
                if request.method != "DELETE" || !is_recursive {
                    return request;
                }
                root
            }
            _ => {
                let user = self.pick(&USERS[1..]);
                basic(user, &password(user))
            }
        };
        request.header("Authorization", &header)
    }
}

/// A user has the same password for ever: what is compared is who may do what.
fn password(user: &str) -> String {
    format!("pw-{user}")
}

fn escaped(name: &str) -> String {
    name.replace(' ', "%20").replace('ü', "%C3%BC")
}

/// The difference on purpose that explains two answers, if there is one.
fn expected(request: &Request, theirs: &Reply, ours: &Reply) -> Option<&'static str> {
    let target = String::from_utf8_lossy(&request.target).into_owned();
    let (their_text, our_text) = (theirs.text(), ours.text());
    if target.starts_with("/v2/auth/users/") && theirs.status() == 404 && ours.status() == 200 {
        return their_text.contains("auth: Role ").then_some("15");
    }
    let signs = request.to_string().to_ascii_lowercase().contains("authorization: b");
    if ours.status() == 401 && theirs.status() != 401 {
        let path = target.split('?').next().unwrap_or_default();
        if path.ends_with('/') {
            return Some("slash");
        }
        return (target.contains("recursive=true") && !signs).then_some("17");
    }
    if our_text.contains("(another value, which you may not read)") {
        return (theirs.status() == 412 && ours.status() == 412).then_some("unseen");
    }
    let (theirs, ours) = (Json::parse(&their_text)?, Json::parse(&our_text)?);
    let unseen = ours.get("prevNode").is_none() && theirs.get("prevNode").is_some();
    unseen.then_some("unseen")
}
