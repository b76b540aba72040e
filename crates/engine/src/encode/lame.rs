//! LAME, one encoder, declared by hand: an opaque pointer and the dozen functions that are needed.

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;

use super::{Format, Quality};
use crate::mp3::info;
use crate::{Code, Error};

#[repr(C)]
struct Flags {
    _opaque: [u8; 0],
}

type Report = Option<unsafe extern "C" fn(format: *const c_char, arguments: *mut std::ffi::c_void)>;

unsafe extern "C" {
    fn lame_init() -> *mut Flags;
    fn lame_close(flags: *mut Flags) -> c_int;
    fn lame_set_errorf(flags: *mut Flags, report: Report) -> c_int;
    fn lame_set_msgf(flags: *mut Flags, report: Report) -> c_int;
    fn lame_set_debugf(flags: *mut Flags, report: Report) -> c_int;
    fn lame_set_in_samplerate(flags: *mut Flags, rate: c_int) -> c_int;
    fn lame_set_out_samplerate(flags: *mut Flags, rate: c_int) -> c_int;
    fn lame_set_num_channels(flags: *mut Flags, channels: c_int) -> c_int;
    fn lame_set_mode(flags: *mut Flags, mode: c_int) -> c_int;
    fn lame_set_quality(flags: *mut Flags, quality: c_int) -> c_int;
    fn lame_set_VBR(flags: *mut Flags, mode: c_int) -> c_int;
    fn lame_set_VBR_q(flags: *mut Flags, quality: c_int) -> c_int;
    fn lame_set_VBR_mean_bitrate_kbps(flags: *mut Flags, kilobits: c_int) -> c_int;
    fn lame_set_brate(flags: *mut Flags, kilobits: c_int) -> c_int;
    fn lame_set_bWriteVbrTag(flags: *mut Flags, on: c_int) -> c_int;
    fn lame_get_scale(flags: *const Flags) -> f32;
    fn lame_init_params(flags: *mut Flags) -> c_int;
    fn lame_encode_buffer_ieee_float(
        flags: *mut Flags,
        left: *const f32,
        right: *const f32,
        samples: c_int,
        mp3: *mut u8,
        room: c_int,
    ) -> c_int;
    fn lame_encode_flush(flags: *mut Flags, mp3: *mut u8, room: c_int) -> c_int;
    fn lame_get_lowpassfreq(flags: *const Flags) -> c_int;
    fn lame_get_lametag_frame(flags: *const Flags, frame: *mut u8, room: usize) -> usize;
}

const JOINT_STEREO: c_int = 1;
const MONO: c_int = 3;
const VBR_OFF: c_int = 0;
const VBR_ABR: c_int = 3;
const VBR_MTRH: c_int = 4;

/// Samples per call: bounds the buffer for what a call may return.
const STEP: usize = 16 * 1152;
/// What a call may return, by lame.h: 1.25 bytes a sample and 7200.
const ROOM: usize = STEP * 5 / 4 + 7200;

/// Bit rates of all MPEG versions whose frames have room for an Info frame, at some sample rate.
const ROOMY: [u16; 4] = [64, 96, 128, 160];

/// One encoder.
pub(crate) struct Lame {
    flags: NonNull<Flags>,
    mp3: Vec<u8>,
}

// SAFETY: an encoder is owned by one value and keeps nothing of the thread that made it. The tables that all encoders share are made by
// the first one, before there are threads (see `Lame::info_frame`); where LAME writes them again, it writes what stands there.
unsafe impl Send for Lame {}

impl Lame {
    /// An encoder whose stream is frames of sound alone.
    pub fn bare(format: &Format) -> Result<Lame, Error> {
        Lame::new(format, false)
    }

    /// LAME's Info frame for this format, with all about a stream that is known before it: settings, not lengths. Called before other
    /// threads make encoders, it also makes the tables that all of them share.
    ///
    /// Into the frames of a low constant bit rate it does not fit, and LAME leaves it out: then it is made at the next rate where it does.
    pub fn info_frame(format: &Format) -> Result<Vec<u8>, Error> {
        let kilobits = match format.quality {
            Quality::Cbr(kilobits) | Quality::Abr(kilobits) => kilobits,
            Quality::Vbr(_) => 0,
        };
        let rates = ROOMY.into_iter().filter(|roomy| *roomy > kilobits);
        for quality in std::iter::once(format.quality).chain(rates.map(Quality::Cbr)) {
            let mut lame = Lame::new(&Format { quality, ..*format }, true)?;
            lame.encode(&[0.0; 1152], None, |_| Ok(()))?;
            lame.finish()?;
            // SAFETY: `mp3` has the room that is said; the function writes nothing when that is too little.
            let n =
                unsafe { lame_get_lametag_frame(lame.flags.as_ptr(), lame.mp3.as_mut_ptr(), lame.mp3.len()) };
            lame.mp3.truncate(n);
            let mut info = std::mem::take(&mut lame.mp3);
            if n > 0 && quality != format.quality {
                info::relabel(&mut info, kilobits, Lame::bare(format)?.lowpass());
            }
            if n > 0 {
                return Ok(info);
            }
        }
        Err(failed(0))
    }

    /// What LAME multiplies all samples by: at low bit rates, a little less than 1.
    pub fn scale(format: &Format) -> Result<f32, Error> {
        let lame = Lame::new(format, false)?;
        // SAFETY: `flags` is live.
        Ok(unsafe { lame_get_scale(lame.flags.as_ptr()) })
    }

    /// Where the encoder's low-pass filter ends, in hertz; 0 where there is none.
    fn lowpass(&self) -> u32 {
        // SAFETY: `flags` is live.
        unsafe { lame_get_lowpassfreq(self.flags.as_ptr()) }.try_into().unwrap_or_default()
    }

    fn new(format: &Format, info_frame: bool) -> Result<Lame, Error> {
        // SAFETY: no arguments.
        let flags = NonNull::new(unsafe { lame_init() }).ok_or_else(Error::out_of_memory)?;
        let lame = Lame { flags, mp3: vec![0; ROOM] };
        let (flags, rate) = (lame.flags.as_ptr(), format.sample_rate as c_int);
        // SAFETY: `flags` is live, and these set plain numbers before lame_init_params.
        let refused = unsafe {
            lame_set_errorf(flags, None);
            lame_set_msgf(flags, None);
            lame_set_debugf(flags, None);
            let mut refused = lame_set_in_samplerate(flags, rate);
            refused |= lame_set_out_samplerate(flags, rate);
            refused |= lame_set_num_channels(flags, format.channels.into());
            refused |= lame_set_mode(flags, if format.channels == 1 { MONO } else { JOINT_STEREO });
            refused |= lame_set_quality(flags, 3);
            refused |= match format.quality {
                Quality::Vbr(level) => lame_set_VBR(flags, VBR_MTRH) | lame_set_VBR_q(flags, level.into()),
                Quality::Cbr(kilobits) => {
                    lame_set_VBR(flags, VBR_OFF) | lame_set_brate(flags, kilobits.into())
                }
                Quality::Abr(kilobits) => {
                    lame_set_VBR(flags, VBR_ABR) | lame_set_VBR_mean_bitrate_kbps(flags, kilobits.into())
                }
            };
            refused |= lame_set_bWriteVbrTag(flags, info_frame.into());
            refused | lame_init_params(flags)
        };
        if refused < 0 { Err(failed(refused)) } else { Ok(lame) }
    }

    /// Encodes; samples are within -1 to 1. `right` is `None` for mono, and where mono is to be doubled. Hands each piece of MP3 to `take`.
    pub fn encode(
        &mut self,
        left: &[f32],
        right: Option<&[f32]>,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let right = right.unwrap_or(left);
        debug_assert_eq!(left.len(), right.len());
        for (left, right) in left.chunks(STEP).zip(right.chunks(STEP)) {
            // SAFETY: both hold as many samples as is said, and `mp3` has the room that is said.
            let n = unsafe {
                lame_encode_buffer_ieee_float(
                    self.flags.as_ptr(),
                    left.as_ptr(),
                    right.as_ptr(),
                    left.len().min(right.len()) as c_int,
                    self.mp3.as_mut_ptr(),
                    self.mp3.len() as c_int,
                )
            };
            take(self.made(n)?)?;
        }
        Ok(())
    }

    /// Ends the stream: its last bytes.
    pub fn finish(&mut self) -> Result<&[u8], Error> {
        // SAFETY: `mp3` has the room that is said.
        let n =
            unsafe { lame_encode_flush(self.flags.as_ptr(), self.mp3.as_mut_ptr(), self.mp3.len() as c_int) };
        self.made(n)
    }

    fn made(&self, n: c_int) -> Result<&[u8], Error> {
        usize::try_from(n).ok().and_then(|n| self.mp3.get(..n)).ok_or_else(|| failed(n))
    }
}

impl Drop for Lame {
    fn drop(&mut self) {
        // SAFETY: `flags` is live and not used again.
        unsafe { lame_close(self.flags.as_ptr()) };
    }
}

/// -2 is LAME's "malloc failed"; nothing else is expected of it.
fn failed(code: c_int) -> Error {
    if code == -2 {
        return Error::out_of_memory();
    }
    Error::new(Code::EngineCrashed, "The encoder failed. This is a fault of the server, not of the video.")
        .because(format!("LAME's error {code}"))
}
