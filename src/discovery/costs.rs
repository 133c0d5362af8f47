//! Registrations that are hard to read, for the test that counts what reading costs.

use crate::costs::{Case, list};
use crate::discovery::entries::{self, Entry};
use crate::model::MemberId;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "founders in a directory",
        input: |bytes| list(bytes, |n| format!("n{n}=http://a:{n}")),
        read: |input| {
            let entry = |value: &str| Entry { key: "1".into(), value: value.into(), created: 1 };
            let values = std::str::from_utf8(input).expect("ASCII").split(',');
            let entries: Vec<_> = values.map(entry).collect();
            let founders = entries::cluster("http://d:1/t", &entries, |_, _| MemberId(1));
            assert!(founders.is_ok());
        },
    },
    Case {
        name: "a founder with many URLs",
        input: |bytes| list(bytes, |n| format!("n=http://a:{n}")),
        read: |input| {
            let value = std::str::from_utf8(input).expect("ASCII").into();
            let entry = Entry { key: "1".into(), value, created: 1 };
            assert!(entries::cluster("http://d:1/t", &[entry], |_, _| MemberId(1)).is_ok());
        },
    },
];
