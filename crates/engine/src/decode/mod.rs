//! From a source to samples: which container, which track, and what to say when there is none.

mod boxes;
mod chapters;
mod claims;
mod cut;
mod ffi;
mod formats;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod length;
mod reader;
mod sample_table;

pub(crate) use chapters::Chapter;
use cut::Cut;
pub(crate) use length::{Length, SLACK};
pub(crate) use reader::{Block, Drops, Packet};
use reader::{Failed, Reader, Stream};

use std::ops::Range;
use std::time::Duration;

use crate::error::words;
use crate::pulse::Pulse;
use crate::{Code, Error, Limits, Options, Source, Trim};

/// An opened video, its sound chosen and known to be decodable.
pub(crate) struct Sound<'s, 'w> {
    reader: Reader<'s, 'w>,
    stream: Stream,
    format: String,
    damage: boxes::Survey,
    trim: Option<Trim>,
    cut: Cut,
}

impl<'s, 'w> Sound<'s, 'w> {
    /// Opens the container, chooses the track, and refuses what cannot be converted.
    pub fn open(
        source: &'s dyn Source,
        pulse: &'s Pulse<'w>,
        options: &Options,
    ) -> Result<Sound<'s, 'w>, Error> {
        Sound::open_listing(source, pulse, options, LISTED)
    }

    /// Opens it so that libav lists not many more samples than these of a long MP4.
    fn open_listing(
        source: &'s dyn Source,
        pulse: &'s Pulse<'w>,
        options: &Options,
        listed: u64,
    ) -> Result<Sound<'s, 'w>, Error> {
        let mut reader = Reader::new(source, pulse)?;
        if reader.size() == 0 {
            return Err(Error::new(
                Code::EmptyFile,
                "The file is empty. Perhaps it was cut off on its way: copy or send it again.",
            ));
        }
        reader.probe().map_err(not_media)?;
        let format = reader.format();
        let damage = match is_mp4(&format) {
            true => boxes::survey(source, reader.size(), listed).map_err(Error::read_failed)?,
            false => boxes::Survey::default(),
        };
        refuse_by_boxes(&damage)?;
        reader.patch(damage.patches());
        reader.open().map_err(|failed| unreadable(failed, &format, &damage))?;
        if damage.index_cut {
            return Err(no_index());
        }
        let mut stream = choose(&mut reader, &format, options.track)?;
        match stream.id.map(|track| damage.table(track)) {
            Some(Some(table)) if stream.codec == "aac" => {
                reader.go_on_by(table).map_err(Error::read_failed)?
            }
            Some(None) => {}
            // Other codecs' packets may be cut anew by libav's parsers.
            _ if !damage.tables.is_empty() => return Sound::open_listing(source, pulse, options, u64::MAX),
            _ => {}
        }
        let dropped = claims::dropped(&format, source).map_err(Error::read_failed)?;
        stream.duration = stream.duration.filter(|_| !reader.duration_is_guess()).max(dropped);
        let sound = Sound { reader, stream, format, damage, trim: options.trim, cut: Cut::default() };
        sound.refuse_undecodable()?;
        sound.refuse_cut_index()?;
        Ok(sound)
    }

    /// The container's name for people and programs: libav's, of several the best known.
    pub fn container(&self) -> String {
        let first = self.format.split(',').next().unwrap_or_default();
        if first == "mov" { "mp4".to_owned() } else { first.to_owned() }
    }

    pub fn codec(&self) -> &str {
        &self.stream.codec
    }

    /// How long the sound is; refuses what is too long before anything is decoded. What lies behind the wanted piece is not counted.
    pub fn length(&self, limits: &Limits) -> Result<Length, Error> {
        length::find(&self.reader, &self.stream, limits, self.trim.and_then(|trim| trim.end))
    }

    /// Where the wanted piece of a sound of this length begins and ends.
    pub fn piece(&self, length: &Length) -> Range<Duration> {
        let trim = self.trim.unwrap_or_default();
        trim.start..trim.end.map_or(length.duration(), |end| end.min(length.duration()))
    }

    /// How much was decoded, wanted or not.
    pub fn position(&self) -> Duration {
        self.cut.position()
    }

    /// Tags of the container. Ogg keeps them with its stream; elsewhere a stream's tags name the track, not the work.
    pub fn metadata(&self) -> Vec<(String, String)> {
        let mut tags = self.reader.metadata(false);
        if self.format == "ogg" {
            tags.extend(self.reader.metadata(true));
        }
        tags
    }

    /// So much later than the container's clock the sound begins: known once something of it was read. What lies within a frame or two is
    /// an encoder's delay.
    pub fn late(&self) -> Duration {
        let first = u64::try_from(self.reader.tally().first_us).map_or(Duration::ZERO, Duration::from_micros);
        // Elsewhere chapters are told by the sound's own clock.
        let one_clock = is_mp4(&self.format) || self.format.starts_with("matroska");
        if one_clock && first >= LATE { first } else { Duration::ZERO }
    }

    /// The container's chapters within the wanted piece of a sound that begins so late.
    pub fn chapters(&self, length: &Length, late: Duration) -> Vec<Chapter> {
        let found = chapters::since(self.reader.chapters(), late);
        chapters::within(found, self.piece(length), self.trim.and_then(|trim| trim.end))
    }

    /// The pictures that are attached to the work, the front cover first.
    pub fn pictures(&self) -> Vec<&[u8]> {
        let mut pictures: Vec<_> = self.reader.pictures().collect();
        pictures.sort_by_key(|(_, is_front_cover)| !is_front_cover);
        pictures.into_iter().map(|(picture, _)| picture).collect()
    }

    /// Opens the decoder and decodes the first frame: sample rate and channels.
    pub fn start(&mut self) -> Result<(u32, u32), Error> {
        let started = self.reader.start().map_err(|failed| self.undecodable(failed))?;
        self.reader.interrupted()?;
        let (rate, channels) = started.ok_or_else(|| self.silent())?;
        if rate > HIGHEST_RATE {
            return Err(corrupt(&format!(
                "The file says that its sound has {rate} samples a second, which no sound has."
            )));
        }
        if channels > MOST_CHANNELS {
            return Err(unsupported(&format!("{channels} channels of {}", self.stream.codec)));
        }
        Ok((rate, channels))
    }

    /// Chooses what [`Sound::next`] delivers: 1 or 2 channels.
    pub fn deliver(&mut self, sample_rate: u32, channels: u8) {
        self.reader.deliver(sample_rate, channels);
        self.cut = Cut::new(self.trim.unwrap_or_default(), sample_rate);
    }

    /// The next samples, `None` at the end of the sound or of the wanted piece. Before the piece come blocks without a sample, so that the
    /// caller can tell how far it is.
    pub fn next(&mut self) -> Result<Option<Block<'_>>, Error> {
        // The end may be an interruption that libav took for one.
        let Sound { reader, stream, cut, .. } = self;
        reader.interrupted()?;
        if cut.is_done() {
            return Ok(None);
        }
        let block = reader.next().map_err(|failed| undecodable(failed, stream))?;
        Ok(block.map(|Block { left, right }| {
            let wanted = cut.take(left.len());
            Block { left: &mut left[wanted.clone()], right: right.map(|right| &mut right[wanted]) }
        }))
    }

    /// The next packet, not decoded; `None` at the end of the sound. Instead of [`Sound::start`] and [`Sound::next`], and never with a trim.
    pub fn packet(&mut self) -> Result<Option<Packet<'_>>, Error> {
        let Sound { reader, stream, .. } = self;
        reader.interrupted()?;
        reader.packet().map_err(|failed| undecodable(failed, stream))
    }

    /// So many samples of a packet will be heard: they count as if they had been decoded.
    pub fn passed(&mut self, samples: usize) {
        self.cut.take(samples);
    }

    /// Once the end is reached: was there any sound, was it whole, and was the wanted piece in it?
    pub fn finish(&self, length: &Length) -> Result<(), Error> {
        self.reader.interrupted()?;
        if self.position().is_zero() {
            return Err(self.silent());
        }
        self.refuse_damaged()?;
        if self.cut.is_done() {
            return Ok(()); // What lies behind the piece may be cut off.
        }
        self.refuse_cut(length)?;
        self.refuse_holes(length)?;
        self.trim.map_or(Ok(()), |trim| self.cut.refuse_beyond(trim))
    }

    fn refuse_damaged(&self) -> Result<(), Error> {
        let tally = self.reader.tally();
        // FFmpeg goes on whatever happens; but its caller keeps the video, and ours may delete it.
        if tally.damaged * 2 > tally.packets || tally.damaged > A_FEW && tally.damaged * 10 > tally.packets {
            let text = "More than a tenth of the sound is damaged, so it was not converted. Perhaps it was garbled on its way: copy or send it again.";
            return Err(Error::new(Code::Corrupt, text)
                .because(format!("{} of {} packets refused by the decoder", tally.damaged, tally.packets)));
        }
        Ok(())
    }

    /// Refuses a sound whose end is missing.
    fn refuse_cut(&self, length: &Length) -> Result<(), Error> {
        let (converted, tally) = (self.position(), self.reader.tally());
        if is_mp4(&self.format) {
            return if self.damage.fragmented { self.refuse_cut_index() } else { Ok(()) };
        }
        if matches!(self.format.as_str(), "mpegts" | "mpeg") {
            return Ok(()); // A recording of a broadcast begins and ends anywhere.
        }
        let (source, size) = (self.reader.source(), self.reader.size());
        match self.format.as_str() {
            "dv" | "gxf" | "mxf" | "nsv" | "nut" | "pva" | "rm" | "ty" | "wtv" => Ok(()),
            "ogg" if claims::ogg_has_video(source).map_err(Error::read_failed)? => Ok(()),
            format if matches!(format, "asf" | "avi" | "wav") || format.starts_with("matroska") => {
                let end = claims::end(format, source, size).map_err(Error::read_failed)?;
                length::refuse_short(converted, length, end, size)
            }
            "flv" | "live_flv" | "kux" => {
                let last_tag = claims::last_flv_tag(source, size).map_err(Error::read_failed)?;
                if length::reaches_end(last_tag, length) {
                    return Ok(());
                }
                length::refuse_cut(converted, length, tally.last_position, size)
            }
            _ => length::refuse_cut(converted, length, tally.last_position, size),
        }
    }

    /// Refuses a sound of which much is missing where the container's reader stumbled: a download with holes in it, bad sectors. A broadcast
    /// may well have them.
    fn refuse_holes(&self, length: &Length) -> Result<(), Error> {
        let Length::Claimed(claim) = length else { return Ok(()) };
        if is_mp4(&self.format) && !self.damage.fragmented {
            return Ok(()); // Its tables name every piece, and its decoder has met what is garbled.
        }
        let converted = self.position();
        let is_much = claim.saturating_sub(converted) > *claim / 10 + SLACK;
        if !is_much || !self.reader.stumbled() || matches!(self.format.as_str(), "mpegts" | "mpeg") {
            return Ok(());
        }
        let (there, whole) = (words(converted), words(*claim));
        Err(corrupt(&format!(
            "Parts of this file are missing or garbled: of {whole} of sound, {there} could be read. Perhaps a download was not complete: copy or send the file again."
        )))
    }

    fn refuse_undecodable(&self) -> Result<(), Error> {
        let Stream { encrypted, decodable, codec, codec_name, tag, .. } = &self.stream;
        if *encrypted {
            return Err(protected());
        }
        if *decodable { Ok(()) } else { Err(unsupported(&formats::codec_name(codec, codec_name, *tag))) }
    }

    /// MP4 says where each piece of the sound lies: all must lie within the file.
    fn refuse_cut_index(&self) -> Result<(), Error> {
        if !is_mp4(&self.format) {
            return Ok(());
        }
        match self.reader.first_outside().map_err(Error::read_failed)? {
            // Fragments claim no more than what of them is there.
            Some(there) => Err(length::cut(there, self.stream.duration.filter(|_| !self.damage.fragmented))),
            None => Ok(()),
        }
    }

    /// Why not one sample came of it.
    fn silent(&self) -> Error {
        let tally = self.reader.tally();
        if tally.packets == 0 || tally.damaged == 0 {
            return Error::new(
                Code::NoAudio,
                "The file has a sound track, but it holds no sound. There is nothing to convert.",
            );
        }
        corrupt("The sound in this file is damaged: none of it could be decoded.")
            .because(format!("{} packets, {} refused by the decoder", tally.packets, tally.damaged))
    }

    /// How far into the file the last piece of the sound lay, `0.0..=1.0`.
    #[expect(clippy::cast_precision_loss, reason = "a share for people to look at")]
    pub fn place(&self) -> f64 {
        (self.reader.tally().last_position as f64 / (self.reader.size() as f64).max(1.0)).clamp(0.0, 1.0)
    }

    fn undecodable(&self, failed: Failed) -> Error {
        undecodable(failed, &self.stream)
    }
}

/// So many samples of a long MP4's sound libav lists, six minutes of AAC: enough for it to find where the sound begins.
const LISTED: u64 = 16_384;

/// A sound that begins earlier than this does not begin late.
const LATE: Duration = Duration::from_millis(100);

/// The highest rate that any sound comes at: DSD1024, which its decoder gives at an eighth. A resampler for more would take gigabytes.
const HIGHEST_RATE: u32 = 6_144_000;

/// More than this the resampler cannot mix.
const MOST_CHANNELS: u32 = 64;

/// So many damaged packets are a scratch, however short the sound is.
const A_FEW: i64 = 10;

/// Refuses what its boxes tell to be no sound, or to be damaged.
fn refuse_by_boxes(survey: &boxes::Survey) -> Result<(), Error> {
    if survey.picture && !survey.has_index && !survey.fragmented {
        return Err(not_media(Failed::NotAllowed));
    }
    if survey.overclaimed {
        let text =
            "The index of this file is damaged: it names more or larger pieces than the file has room for.";
        return Err(corrupt(text));
    }
    Ok(())
}

/// Chooses the track: the one that is asked for, counted from 1; else one that can be decoded and holds sound (broadcasts announce empty ones), marked as default, not a commentary;
/// the first of those.
fn choose(reader: &mut Reader<'_, '_>, format: &str, track: Option<u32>) -> Result<Stream, Error> {
    let empty = |s: &Stream| s.sample_rate == 0 || s.channels == 0;
    let best = |streams: Vec<Stream>| match track.map(|track| usize::try_from(track).unwrap_or(usize::MAX)) {
        Some(track) => streams.into_iter().nth(track.saturating_sub(1)),
        None => streams
            .into_iter()
            .min_by_key(|s| (!s.decodable, empty(s), !s.is_default, s.is_secondary, s.index)),
    };
    let fail = |failed| unreadable(failed, format, &boxes::Survey::default());
    let mut chosen = best(reader.streams());
    let described = chosen.as_ref().is_some_and(|s| s.sample_rate > 0 && s.channels > 0 && s.codec != "none");
    if !(described && (is_mp4(format) || format.starts_with("matroska"))) {
        reader.find_streams().map_err(fail)?;
        chosen = best(reader.streams());
    }
    let chosen = chosen.ok_or_else(|| no_such_track(&reader.streams(), track))?;
    reader.choose(chosen.index).map_err(fail)?;
    Ok(chosen)
}

/// None at all, or not the one that was asked for: then those that there are.
fn no_such_track(streams: &[Stream], track: Option<u32>) -> Error {
    const SHOWN: usize = 12;
    let Some(track) = track.filter(|_| !streams.is_empty()) else {
        let text = "The file has no sound track, so there is nothing to convert.";
        return Error::new(Code::NoAudio, text);
    };
    let describe = |(i, stream): (usize, &Stream)| {
        let channels = match stream.channels {
            0 => String::new(),
            1 => "mono".to_owned(),
            2 => "stereo".to_owned(),
            channels => format!("{channels} channels"),
        };
        let facts = [&stream.title, &stream.language, &stream.codec, &channels];
        let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).map(String::as_str).collect();
        format!("{} ({})", i + 1, facts.join(", "))
    };
    let mut there: Vec<_> = streams.iter().enumerate().take(SHOWN).map(describe).collect();
    if streams.len() > SHOWN {
        there.push(format!("and so on to {}", streams.len()));
    }
    let there = there.join(", ");
    Error::new(
        Code::NoSuchTrack,
        format!("The file has no sound track {track}. Choose one that it has: {there}."),
    )
}

fn is_mp4(format: &str) -> bool {
    format.starts_with("mov,")
}

fn not_media(failed: Failed) -> Error {
    let error = Error::new(
        Code::NotMedia,
        "This is no video or sound file that can be converted. Upload an MP4, MKV, WebM, MOV, AVI or another common format.",
    );
    match failed {
        Failed::Ours(error) => error,
        Failed::Libav(complaint) | Failed::NotImplemented(complaint) => error.because(complaint),
        Failed::NotAllowed => error.because("the container is not in the list of those that are read"),
        Failed::Encrypted => protected(),
    }
}

const BROKEN_HEAD: &str =
    "The file looks like a video or sound file, but its beginning is damaged and it cannot be read.";

/// The header could not be read.
fn unreadable(failed: Failed, format: &str, damage: &boxes::Survey) -> Error {
    let complaint = match failed {
        Failed::Ours(error) => return blamed_on_memory(&error).unwrap_or(error),
        Failed::Encrypted => return protected(),
        Failed::NotAllowed => return not_media(failed),
        Failed::Libav(complaint) | Failed::NotImplemented(complaint) => complaint,
    };
    if damage.encrypted {
        return protected().because(complaint);
    }
    if is_mp4(format) && (damage.index_cut || !damage.has_index && !damage.fragmented) {
        return no_index().because(complaint);
    }
    corrupt(BROKEN_HEAD).because(complaint)
}

/// What is wrong where libav says that memory ran out and it did not: only its log tells.
fn blamed_on_memory(error: &Error) -> Option<Error> {
    let said = error.source.as_ref().filter(|_| error.code == Code::OutOfMemory)?.to_string();
    let what = if said.contains("max_streams") {
        "The file says that it has more than 1000 tracks, which no video has."
    } else if said.contains("Failed to read extradata") {
        BROKEN_HEAD
    } else {
        return None;
    };
    Some(corrupt(what).because(said))
}

fn undecodable(failed: Failed, stream: &Stream) -> Error {
    match failed {
        Failed::Ours(error) => error,
        Failed::Encrypted => protected(),
        Failed::NotAllowed => not_media(failed),
        Failed::NotImplemented(complaint) => {
            unsupported(&format!("a variant of {}", stream.codec)).because(complaint)
        }
        Failed::Libav(complaint) => {
            corrupt(&format!("The sound in this file ({}) is damaged and cannot be decoded.", stream.codec))
                .because(complaint)
        }
    }
}

fn unsupported(name: &str) -> Error {
    let text = format!(
        "The sound is in a format that cannot be converted: {name}. Save the video with its sound as AAC and try again."
    );
    Error::new(Code::UnsupportedCodec, text)
}

fn corrupt(what: &str) -> Error {
    Error::new(Code::Corrupt, format!("{what} Perhaps it was garbled on its way: copy or send it again."))
}

fn protected() -> Error {
    Error::new(
        Code::Encrypted,
        "The sound is encrypted (copy protection), so it cannot be converted. Upload a version without copy protection.",
    )
}

fn no_index() -> Error {
    Error::new(
        Code::Truncated,
        "The file is cut off: it ends before its index, without which it cannot be played. Perhaps the recording was interrupted, or the file was cut off on its way: copy or send the whole file again.",
    )
}
