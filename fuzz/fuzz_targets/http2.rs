#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cairn::fuzz::read("http2", input));
