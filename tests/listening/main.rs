//! Where a member listens and what it takes there: both families of addresses, sockets in files, request lines as old clients send
//! them, requests that are none, and more connections than there are file descriptors.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod descriptors;
mod malformed;
mod member;
mod request_lines;
