//! Any bytes as a video: what our own readers of containers find, within bounds.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::fuzzing::boxes(bytes));
