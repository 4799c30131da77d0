//! See `properties::dockerfiles`.

#![no_main]

#[expect(dead_code, reason = "each target calls one of them")]
#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::dockerfiles(data));
