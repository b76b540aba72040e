//! Any bytes as an MP3: walked, measured, taken apart and put together again.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::fuzzing::mp3(bytes));
