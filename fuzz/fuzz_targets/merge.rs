//! Any neighbours' frames, joined: the MP3 must be legal and made of nothing else.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::fuzzing::merge(bytes));
