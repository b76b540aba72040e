//! Any bytes from the other end of the control socket and of the video's socket, for parent and child.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::fuzzing::control(bytes));
