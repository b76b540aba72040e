//! Any words, chapters and pictures as a tag: whole, consistent and within the head.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::fuzzing::tags(bytes));
