//! Copies a sound that is MP3 already: its frames, as they are, without decoding one.
//!
//! Nothing can be taken back once the first byte is written. So the sound is read twice: once to find out whether every frame can be copied,
//! and how long the sound is; then to write it. What cannot be copied without a doubt is decoded and encoded, as any other sound.

mod hearing;

use std::io;

use crate::decode::{Length, Sound};
use crate::mp3::foreign::{Foreign, Uncopyable};
use crate::mp3::splice::{Splice, Spliced};
use crate::{Error, Options};
use hearing::Hearing;

/// What finding out takes of a conversion that copies: reading all of the sound, against reading and writing it.
pub(crate) const SCANNING: f64 = 0.5;

/// Whether it is worth a look.
pub(crate) fn may_be_copied(options: &Options, sound: &Sound<'_, '_>) -> bool {
    options.leave_mp3_alone() && sound.codec() == "mp3"
}

/// Reads `sound` to its end: what a copy of it will be, or `None` where it has to be encoded. `told` is called after each frame.
pub(crate) fn scan(
    sound: &mut Sound<'_, '_>,
    length: &Length,
    told: impl Fn(&Sound<'_, '_>) -> Result<(), Error>,
) -> Result<Option<Spliced>, Error> {
    match copy(sound, |_| Ok(()), told) {
        Ok(spliced) => sound.finish(length).map(|()| Some(spliced)),
        Err(Stop::Uncopyable(_)) => Ok(None),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Copies what was scanned: gives `write` all bytes behind the Info frame, in order.
pub(crate) fn write(
    sound: &mut Sound<'_, '_>,
    scanned: &Spliced,
    write: impl FnMut(&[u8]) -> Result<(), Error>,
    told: impl Fn(&Sound<'_, '_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let changed = Uncopyable("they changed while they were read");
    let why = match copy(sound, write, told) {
        Ok(written) if written == *scanned => return Ok(()),
        Err(Stop::Failed(error)) => return Err(error),
        Ok(_) => changed,
        Err(Stop::Uncopyable(why)) => why,
    };
    Err(Error::read_failed(io::Error::other(why)))
}

/// Why copying ends early.
enum Stop {
    /// The sound is to be encoded.
    Uncopyable(Uncopyable),
    /// The conversion failed.
    Failed(Error),
}

impl From<Uncopyable> for Stop {
    fn from(why: Uncopyable) -> Stop {
        Stop::Uncopyable(why)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

fn copy(
    sound: &mut Sound<'_, '_>,
    mut write: impl FnMut(&[u8]) -> Result<(), Error>,
    told: impl Fn(&Sound<'_, '_>) -> Result<(), Error>,
) -> Result<Spliced, Stop> {
    let (mut foreign, mut hearing, mut splice) = (Foreign::default(), Hearing::default(), Splice::new());
    let mut is_first = true;
    while let Some(packet) = sound.packet()? {
        let drops = packet.drops;
        let Some(frame) = foreign.take(packet.bytes)? else { continue };
        let header = frame.parsed();
        if std::mem::take(&mut is_first) {
            sound.deliver(header.sample_rate, header.channels);
        }
        let heard = hearing.of(drops, header.samples.into());
        sound.passed(heard.clone().count());
        splice.push(frame, heard)?;
        splice.take(&mut write)?;
        told(sound)?;
    }
    splice.finish()?;
    splice.take(&mut write)?;
    Ok(splice.spliced()?)
}
