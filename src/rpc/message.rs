//! How messages are declared: field, kind, number, as in a `.proto` file.
//!
//! ```text
//! messages! {
//!     /// What it is.
//!     LeaseGrantRequest {
//!         ttl: int64 = 1 "TTL";      the JSON name, where it is not that of the field
//!         kind: (enum Kind) = 2;     an i32 in the struct: others than the known ones are kept
//!         header: (message ResponseHeader) = 3;
//!         keys: (repeated bytes) = 4;
//!         request: (oneof RequestUnion) = "5, 6";
//!     }
//! }
//! ```

/// Structs of messages; see the head of this file.
macro_rules! messages {
    ($( $(#[$meta:meta])* $name:ident { $($fields:tt)* } )*) => { $(
        message_fields! { ($(#[$meta])* $name) [] [] $($fields)* }
    )* };
}

/// Takes one field after the other off the list, and leaves a line for the struct and one for JSON.
macro_rules! message_fields {
    (($(#[$meta:meta])* $name:ident) [$($lines:tt)*] [$(($field:ident, $json:expr, $form:tt))*]) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $name { $($lines)* }

        impl crate::rpc::json::Json for $name {
            fn write_fields(&self, out: &mut crate::rpc::json::Object<'_>) {
                // A message may have no fields.
                let _ = &out;
                $( json_write! { out, $json, self.$field, $form } )*
            }

            fn read_field(
                &mut self,
                name: &str,
                value: &crate::rpc::json::Value,
            ) -> Result<(), crate::rpc::json::JsonError> {
                let _ = (name, value);
                $( json_read! { name, value, $json, self.$field, $form } )*
                Ok(())
            }
        }
    };
    // With a JSON name of its own.
    ($head:tt $lines:tt $json:tt $(#[$meta:meta])* $field:ident : $kind:tt = $tag:tt $shown:literal ; $($rest:tt)*) => {
        message_field! { $head $lines $json [$(#[$meta])*] $field $kind $tag ($shown) $($rest)* }
    };
    ($head:tt $lines:tt $json:tt $(#[$meta:meta])* $field:ident : $kind:tt = $tag:tt ; $($rest:tt)*) => {
        message_field! { $head $lines $json [$(#[$meta])*] $field $kind $tag (stringify!($field)) $($rest)* }
    };
}

/// What a kind is in Rust, in protobuf and in JSON.
macro_rules! message_field {
    ($h:tt $l:tt $j:tt $m:tt $f:ident bool $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (bool) (bool, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident int64 $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (i64) (int64, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident uint64 $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (u64) (uint64, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident uint32 $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (u32) (uint32, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident string $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (String) (string, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident bytes $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (bytes::Bytes) (bytes = "bytes", tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident (repeated string) $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (Vec<String>) (string, repeated, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident (repeated bytes) $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (Vec<bytes::Bytes>) (bytes = "bytes", repeated, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident (message $of:ident) $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (Option<$of>) (message, optional, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident (repeated message $of:ident) $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (Vec<$of>) (message, repeated, tag = $t) $s plain $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident (enum $of:ident) $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (i32) (enumeration($of), tag = $t) $s (one $of) $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident (repeated enum $of:ident) $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (Vec<i32>) (enumeration($of), repeated, tag = $t) $s (many $of) $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $f:ident (oneof $of:ident) $t:tt $s:tt $($r:tt)*) => {
        message_line! { $h $l $j $m $f (Option<$of>) (oneof($of), tags = $t) $s (oneof $of) $($r)* }
    };
}

macro_rules! message_line {
    (
        $head:tt [$($lines:tt)*] [$($json:tt)*] [$(#[$meta:meta])*] $field:ident ($($type:tt)*) ($($prost:tt)*) ($shown:expr)
        $form:tt $($rest:tt)*
    ) => {
        message_fields! {
            $head
            [$($lines)* $(#[$meta])* #[doc = concat!("On the wire: `", stringify!($($prost)*), "`.")] #[prost($($prost)*)] pub $field: $($type)*,]
            [$($json)* ($field, $shown, $form)]
            $($rest)*
        }
    };
}

macro_rules! json_write {
    ($out:ident, $name:expr, $value:expr, plain) => {
        crate::rpc::json::Field::write(&$value, $out, $name);
    };
    ($out:ident, $name:expr, $value:expr, (one $of:ident)) => {
        $out.choice::<$of>($name, $value);
    };
    ($out:ident, $name:expr, $value:expr, (many $of:ident)) => {
        $out.choices::<$of>($name, &$value);
    };
    ($out:ident, $name:expr, $value:expr, (oneof $of:ident)) => {
        if let Some(value) = &$value {
            value.write_json($out);
        }
    };
}

macro_rules! json_read {
    ($name:ident, $value:ident, $shown:expr, $field:expr, plain) => {
        if crate::rpc::json::is_name($name, $shown) {
            $field = crate::rpc::json::Field::read($value)?;
            return Ok(());
        }
    };
    ($name:ident, $value:ident, $shown:expr, $field:expr, (one $of:ident)) => {
        if crate::rpc::json::is_name($name, $shown) {
            $field = crate::rpc::json::read_choice::<$of>($value)?;
            return Ok(());
        }
    };
    ($name:ident, $value:ident, $shown:expr, $field:expr, (many $of:ident)) => {
        if crate::rpc::json::is_name($name, $shown) {
            $field = crate::rpc::json::read_choices::<$of>($value)?;
            return Ok(());
        }
    };
    ($name:ident, $value:ident, $shown:expr, $field:expr, (oneof $of:ident)) => {
        if let Some(read) = $of::read_json($name, $value)? {
            $field = Some(read);
            return Ok(());
        }
    };
}

/// Alternatives: a field of these is one of them, or none.
macro_rules! oneofs {
    ($(
        $(#[$meta:meta])*
        $name:ident { $( $(#[$doc:meta])* $variant:ident : $kind:tt = $tag:tt $shown:literal ; )* }
    )*) => { $(
        oneof_variants! { ($(#[$meta])* $name) [] [] $( [$(#[$doc])*] $variant $kind $tag $shown )* }
    )* };
}

macro_rules! oneof_variants {
    (($(#[$meta:meta])* $name:ident) [$($lines:tt)*] [$(($variant:ident, $shown:literal))*]) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum $name { $($lines)* }

        impl $name {
            fn write_json(&self, out: &mut crate::rpc::json::Object<'_>) {
                match self { $( Self::$variant(value) => out.alternative($shown, (stringify!($name), stringify!($variant)), value), )* }
            }

            fn read_json(
                name: &str,
                value: &crate::rpc::json::Value,
            ) -> Result<Option<Self>, crate::rpc::json::JsonError> {
                if matches!(value, crate::rpc::json::Value::Null) {
                    return Ok(None);
                }
                $(
                    if crate::rpc::json::is_name(name, $shown) {
                        return Ok(Some(Self::$variant(crate::rpc::json::Field::read(value)?)));
                    }
                )*
                Ok(None)
            }
        }
    };
    ($h:tt $l:tt $j:tt $m:tt $v:ident int64 $t:tt $s:literal $($r:tt)*) => {
        oneof_line! { $h $l $j $m $v (i64) (int64, tag = $t) $s $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $v:ident bytes $t:tt $s:literal $($r:tt)*) => {
        oneof_line! { $h $l $j $m $v (bytes::Bytes) (bytes = "bytes", tag = $t) $s $($r)* }
    };
    ($h:tt $l:tt $j:tt $m:tt $v:ident (message $of:ident) $t:tt $s:literal $($r:tt)*) => {
        oneof_line! { $h $l $j $m $v ($of) (message, tag = $t) $s $($r)* }
    };
}

macro_rules! oneof_line {
    (
        $head:tt [$($lines:tt)*] [$($json:tt)*] [$(#[$meta:meta])*] $variant:ident ($($type:tt)*) ($($prost:tt)*) $shown:literal
        $($rest:tt)*
    ) => {
        oneof_variants! {
            $head
            [$($lines)* $(#[$meta])* #[doc = concat!("On the wire: `", $shown, "`.")] #[prost($($prost)*)] $variant($($type)*),]
            [$($json)* ($variant, $shown)]
            $($rest)*
        }
    };
}

/// Numbers with names, and what Go calls their type.
macro_rules! choices {
    ($(
        $(#[$meta:meta])*
        $name:ident $type:literal { $( $(#[$doc:meta])* $variant:ident = $number:tt $shown:literal ; )* }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
        #[repr(i32)]
        pub enum $name {
            $( $(#[$doc])* #[doc = concat!("On the wire: `", $shown, "`.")] $variant = $number, )*
        }

        impl crate::rpc::json::Choice for $name {
            const TYPE: &'static str = $type;
            const NAMES: &'static [(&'static str, i32)] = &[$(($shown, $number)),*];
        }
    )* };
}
