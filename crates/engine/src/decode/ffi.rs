//! The declarations of libav.h, one for one.

use std::ffi::{c_char, c_int, c_void};

/// An open input; only ever behind a pointer.
#[repr(C)]
pub struct Input {
    _opaque: [u8; 0],
}

pub type Read = unsafe extern "C" fn(opaque: *mut c_void, offset: i64, buffer: *mut u8, size: c_int) -> c_int;

pub type Further = unsafe extern "C" fn(opaque: *mut c_void, position: *mut i64, size: *mut i32) -> c_int;

pub const NO_MEMORY: c_int = 1;
pub const NOT_ALLOWED: c_int = 2;
pub const IS_ENCRYPTED: c_int = 3;
pub const NOT_IMPLEMENTED: c_int = 4;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stream {
    pub index: i32,
    pub id: i32,
    pub is_default: i32,
    pub is_secondary: i32,
    pub decodable: i32,
    pub encrypted: i32,
    pub sample_rate: i32,
    pub channels: i32,
    pub tag: u32,
    pub duration_us: i64,
    pub codec: [c_char; 32],
    pub codec_name: [c_char; 128],
    pub language: [c_char; 16],
    pub title: [c_char; 64],
}

#[repr(C)]
pub struct Packet {
    pub bytes: *const u8,
    pub size: i32,
    pub unheard: i32,
    pub skip: i32,
    pub discard: i32,
}

#[repr(C)]
pub struct Block {
    pub left: *mut f32,
    pub right: *mut f32,
    pub frames: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub packets: i64,
    pub damaged: i64,
    pub last_position: i64,
    pub samples: i64,
    pub first_us: i64,
}

unsafe extern "C" {
    pub fn engine_input_new(
        read: Read,
        opaque: *mut c_void,
        length: i64,
        formats: *const c_char,
        codecs: *const c_char,
    ) -> *mut Input;
    pub fn engine_input_free(input: *mut Input);
    pub fn engine_probe(input: *mut Input) -> c_int;
    pub fn engine_format(input: *const Input) -> *const c_char;
    pub fn engine_open(input: *mut Input) -> c_int;
    pub fn engine_streams(input: *mut Input, streams: *mut Stream, room: c_int) -> c_int;
    pub fn engine_find_streams(input: *mut Input) -> c_int;
    pub fn engine_duration_is_guess(input: *const Input) -> c_int;
    pub fn engine_choose(input: *mut Input, stream: c_int) -> c_int;
    pub fn engine_go_on(input: *mut Input, further: Further);
    pub fn engine_index_entry(
        input: *mut Input,
        i: c_int,
        position: *mut i64,
        size: *mut i64,
        time_us: *mut i64,
    ) -> c_int;
    pub fn engine_metadata(
        input: *mut Input,
        of_stream: c_int,
        i: c_int,
        key: *mut *const c_char,
        value: *mut *const c_char,
    ) -> c_int;
    pub fn engine_picture(
        input: *const Input,
        i: c_int,
        bytes: *mut *const u8,
        size: *mut c_int,
        is_front_cover: *mut c_int,
    ) -> c_int;
    pub fn engine_chapter(
        input: *const Input,
        i: c_int,
        start_us: *mut i64,
        end_us: *mut i64,
        title: *mut *const c_char,
    ) -> c_int;
    pub fn engine_skip(input: *mut Input, duration_us: *mut i64) -> c_int;
    pub fn engine_next_packet(input: *mut Input, packet: *mut Packet) -> c_int;
    pub fn engine_start(input: *mut Input, sample_rate: *mut i32, channels: *mut i32) -> c_int;
    pub fn engine_deliver(input: *mut Input, sample_rate: c_int, channels: c_int);
    pub fn engine_next(input: *mut Input, block: *mut Block) -> c_int;
    pub fn engine_tallied(input: *const Input, tally: *mut Tally);
    pub fn engine_class(error: c_int) -> c_int;
    pub fn engine_error_text(error: c_int, text: *mut c_char, size: c_int);
    pub fn engine_log_clear();
    pub fn engine_log_of_demuxers() -> i64;
    pub fn engine_log_read(text: *mut c_char, size: c_int);
}
