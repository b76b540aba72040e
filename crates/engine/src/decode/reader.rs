//! A safe hold on libav's input: one container, one chosen stream, samples out.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::ptr::NonNull;
use std::time::Duration;

use super::sample_table::{Patch, SampleTable, Samples};
use super::{ffi, formats};
use crate::pulse::Pulse;
use crate::{Error, Source};

/// What the read callback sees: the source and the watcher, and where it leaves an error that libav cannot carry.
struct Feed<'s, 'w> {
    source: &'s dyn Source,
    pulse: &'s Pulse<'w>,
    failure: RefCell<Option<io::Error>>,
    /// What libav is to see of MP4's boxes otherwise than it is.
    patches: RefCell<Vec<Patch>>,
    /// The samples behind those that libav knows of.
    unlisted: RefCell<Option<Samples<'s>>>,
}

/// An input of libav.
pub(crate) struct Reader<'s, 'w> {
    raw: NonNull<ffi::Input>,
    /// `raw` points at it.
    feed: Box<Feed<'s, 'w>>,
    size: u64,
    /// The chosen stream's, where libav knows only its beginning.
    table: Option<SampleTable>,
}

/// An audio stream, as far as the container describes it.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub index: i32,
    /// The container's own number of the track.
    pub id: Option<u32>,
    pub is_default: bool,
    pub is_secondary: bool,
    pub decodable: bool,
    pub encrypted: bool,
    pub sample_rate: u32,
    pub channels: u32,
    pub tag: [u8; 4],
    /// What the container claims; guesses from the bit rate are left out by the time a track is chosen.
    pub duration: Option<Duration>,
    pub codec: String,
    pub codec_name: String,
    /// As the container has them; empty when it says nothing.
    pub language: String,
    pub title: String,
}

/// No more of a file's sound tracks, pictures and chapters are looked at; libav itself stops at 1000 streams.
const MOST_STREAMS: usize = 1000;
const MOST_PICTURES: c_int = 64;
const MOST_CHAPTERS: c_int = 10_000;

/// Planar samples, borrowed from libav until the next call; both slices are the same length.
pub(crate) struct Block<'a> {
    pub left: &'a mut [f32],
    /// None when there is one channel.
    pub right: Option<&'a mut [f32]>,
}

/// A packet, borrowed from libav until the next call, and what libav's decoder would be told to drop of its sound.
pub(crate) struct Packet<'a> {
    pub bytes: &'a [u8],
    pub drops: Drops,
}

/// What is decoded and not heard, in samples per channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drops {
    /// All of the packet, as an edit list says.
    pub all: bool,
    /// So many from here on, in this packet and the next ones; `None`: what was said before holds.
    pub from_here: Option<u64>,
    /// So many at its end.
    pub at_end: u64,
}

impl<'s, 'w> Reader<'s, 'w> {
    pub fn new(source: &'s dyn Source, pulse: &'s Pulse<'w>) -> Result<Reader<'s, 'w>, Error> {
        let size = source.len().map_err(Error::read_failed)?;
        let length = i64::try_from(size).unwrap_or(i64::MAX);
        let feed = Box::new(Feed {
            source,
            pulse,
            failure: RefCell::default(),
            patches: RefCell::default(),
            unlisted: RefCell::default(),
        });
        let list = |names: &[&str]| CString::new(names.join(",")).expect("the lists hold no NUL");
        let (formats, codecs) = (list(formats::CONTAINERS), list(formats::DECODERS));
        let opaque = (&raw const *feed).cast_mut().cast::<c_void>();
        // SAFETY: the strings live through the call, which copies them; `feed` is boxed and outlives the input, and
        // `read` takes it for what it is.
        let raw = unsafe {
            ffi::engine_log_clear();
            ffi::engine_input_new(read, opaque, length, formats.as_ptr(), codecs.as_ptr())
        };
        let raw = NonNull::new(raw).ok_or_else(Error::out_of_memory)?;
        Ok(Reader { raw, feed, size, table: None })
    }

    /// Size of the source in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn source(&self) -> &'s dyn Source {
        self.feed.source
    }

    pub fn pulse(&self) -> &'s Pulse<'w> {
        self.feed.pulse
    }

    /// Recognises the container.
    pub fn probe(&mut self) -> Result<(), Failed> {
        // SAFETY: `raw` is a live input.
        self.result(unsafe { ffi::engine_probe(self.raw.as_ptr()) }).map(drop)
    }

    /// The container's name in libav's words; empty before it is recognised.
    pub fn format(&self) -> String {
        // SAFETY: `raw` is a live input; the name is null or static.
        unsafe {
            let name = ffi::engine_format(self.raw.as_ptr());
            if name.is_null() { String::new() } else { text(name) }
        }
    }

    /// Lets libav see this instead of what is there.
    pub fn patch(&mut self, patches: Vec<Patch>) {
        self.feed.patches.replace(patches);
    }

    pub fn patches(&self) -> Vec<Patch> {
        self.feed.patches.borrow().clone()
    }

    /// Once libav has no more packets of the chosen stream, goes on by its own tables.
    pub fn go_on_by(&mut self, table: &SampleTable) -> io::Result<()> {
        self.feed.unlisted.replace(Some(table.unlisted(self.feed.source)?));
        self.table = Some(table.clone());
        // SAFETY: `raw` is an open input, and `further` takes what `engine_input_new` was given for what it is.
        unsafe { ffi::engine_go_on(self.raw.as_ptr(), further) };
        Ok(())
    }

    /// The tables by which it goes on.
    pub fn table(&self) -> Option<&SampleTable> {
        self.table.as_ref()
    }

    /// Reads the container's header.
    pub fn open(&mut self) -> Result<(), Failed> {
        // SAFETY: `raw` is a live, probed input.
        self.result(unsafe { ffi::engine_open(self.raw.as_ptr()) }).map(drop)
    }

    /// The audio streams that are known by now.
    pub fn streams(&mut self) -> Vec<Stream> {
        const EMPTY: ffi::Stream = ffi::Stream {
            index: 0,
            id: 0,
            is_default: 0,
            is_secondary: 0,
            decodable: 0,
            encrypted: 0,
            sample_rate: 0,
            channels: 0,
            tag: 0,
            duration_us: -1,
            codec: [0; 32],
            codec_name: [0; 128],
            language: [0; 16],
            title: [0; 64],
        };
        let mut found = vec![EMPTY; 64];
        loop {
            // SAFETY: `raw` is an open input, and `found` has the room that is said.
            let count =
                unsafe { ffi::engine_streams(self.raw.as_ptr(), found.as_mut_ptr(), found.len() as c_int) };
            let count = usize::try_from(count).unwrap_or(0).min(MOST_STREAMS);
            if count <= found.len() {
                found.truncate(count);
                break;
            }
            found.resize(count, EMPTY);
        }
        found.iter().map(Stream::from).collect()
    }

    /// Reads on until the streams are described.
    pub fn find_streams(&mut self) -> Result<(), Failed> {
        // SAFETY: `raw` is an open input.
        self.result(unsafe { ffi::engine_find_streams(self.raw.as_ptr()) }).map(drop)
    }

    pub fn duration_is_guess(&self) -> bool {
        // SAFETY: `raw` is an open input.
        unsafe { ffi::engine_duration_is_guess(self.raw.as_ptr()) != 0 }
    }

    /// Reads only this stream from here on.
    pub fn choose(&mut self, stream: i32) -> Result<(), Failed> {
        // SAFETY: `raw` is an open input; the index is checked there.
        self.result(unsafe { ffi::engine_choose(self.raw.as_ptr(), stream) }).map(drop)
    }

    /// When the first piece of the chosen stream comes that the container's index puts outside of the file.
    pub fn first_outside(&self) -> io::Result<Option<Duration>> {
        if let Some(table) = &self.table {
            let mut samples = table.samples(self.feed.source);
            while let Some(sample) = samples.next()? {
                if sample.position.saturating_add(sample.size.into()) > self.size {
                    return Ok(Some(sample.time));
                }
            }
            return Ok(None);
        }
        let lies_outside = |(position, size, _): &(i64, i64, Duration)| {
            u64::try_from(position.saturating_add(*size)).is_ok_and(|end| end > self.size)
        };
        Ok(self.index().find(lies_outside).map(|(_, _, time)| time))
    }

    /// libav's index of the chosen stream: position and size in bytes, and time, entry by entry.
    fn index(&self) -> impl Iterator<Item = (i64, i64, Duration)> {
        (0..).map_while(|i| {
            let (mut position, mut size, mut time_us) = (0, 0, 0);
            // SAFETY: a stream is chosen, and the three are written before the call returns.
            let found = unsafe {
                ffi::engine_index_entry(self.raw.as_ptr(), i, &mut position, &mut size, &mut time_us)
            };
            (found != 0).then(|| (position, size, micros(time_us).unwrap_or_default()))
        })
    }

    /// Metadata of the file or of the chosen stream.
    pub fn metadata(&self, of_stream: bool) -> Vec<(String, String)> {
        (0..1000)
            .map_while(|i| {
                let (mut key, mut value) = (std::ptr::null(), std::ptr::null());
                // SAFETY: `raw` is an open input; both strings are copied before the next call.
                unsafe {
                    let found =
                        ffi::engine_metadata(self.raw.as_ptr(), of_stream.into(), i, &mut key, &mut value);
                    (found != 0).then(|| (text(key), text(value)))
                }
            })
            .collect()
    }

    /// The attached pictures, and whether each is the front cover.
    pub fn pictures(&self) -> impl Iterator<Item = (&[u8], bool)> {
        (0..MOST_PICTURES).map_while(|i| {
            let (mut bytes, mut size, mut is_front_cover) = (std::ptr::null(), 0, 0);
            // SAFETY: `raw` is an open input; the picture lives as long as it does, and is not written to.
            unsafe {
                let found =
                    ffi::engine_picture(self.raw.as_ptr(), i, &mut bytes, &mut size, &mut is_front_cover);
                let size = usize::try_from(size).unwrap_or(0);
                (found != 0).then(|| (std::slice::from_raw_parts(bytes, size), is_front_cover != 0))
            }
        })
    }

    /// The chapters in the container's order: start, end where it says one, title.
    pub fn chapters(&self) -> Vec<(Duration, Option<Duration>, Option<String>)> {
        let chapter = |i| {
            let (mut start_us, mut end_us, mut title) = (-1, -1, std::ptr::null());
            // SAFETY: `raw` is an open input; the title is null, or copied before the next call.
            unsafe {
                let found = ffi::engine_chapter(self.raw.as_ptr(), i, &mut start_us, &mut end_us, &mut title);
                let title = (!title.is_null()).then(|| text(title));
                (found != 0).then(|| (micros(start_us).unwrap_or_default(), micros(end_us), title))
            }
        };
        (0..MOST_CHAPTERS).map_while(chapter).collect()
    }

    /// Reads past one packet: `None` at the end, else its duration where it is known.
    pub fn skip(&mut self) -> Result<Option<Option<Duration>>, Failed> {
        let mut duration_us = -1;
        // SAFETY: a stream is chosen.
        let more = self.result(unsafe { ffi::engine_skip(self.raw.as_ptr(), &mut duration_us) })?;
        Ok(more.then(|| micros(duration_us)))
    }

    /// The next packet, not decoded; `None` at the end.
    pub fn packet(&mut self) -> Result<Option<Packet<'_>>, Failed> {
        let mut raw = ffi::Packet { bytes: std::ptr::null(), size: 0, unheard: 0, skip: -1, discard: 0 };
        // SAFETY: a stream is chosen.
        let more = self.result(unsafe { ffi::engine_next_packet(self.raw.as_ptr(), &mut raw) })?;
        let drops = Drops {
            all: raw.unheard != 0,
            from_here: u64::try_from(raw.skip).ok(),
            at_end: u64::try_from(raw.discard).unwrap_or(0),
        };
        let size = usize::try_from(raw.size).unwrap_or(0);
        let bytes = if raw.bytes.is_null() || size == 0 {
            &[]
        } else {
            // SAFETY: libav holds `size` bytes there until the next call, which `&mut self` rules out while the packet lives.
            unsafe { std::slice::from_raw_parts(raw.bytes, size) }
        };
        Ok(more.then_some(Packet { bytes, drops }))
    }

    /// Decodes the first frame: its sample rate and channels, `None` when there is none.
    pub fn start(&mut self) -> Result<Option<(u32, u32)>, Failed> {
        let (mut rate, mut channels) = (0, 0);
        // SAFETY: a stream is chosen.
        let more = self.result(unsafe { ffi::engine_start(self.raw.as_ptr(), &mut rate, &mut channels) })?;
        Ok(more.then_some((rate.unsigned_abs(), channels.unsigned_abs())))
    }

    /// Chooses what [`Reader::next`] delivers.
    pub fn deliver(&mut self, sample_rate: u32, channels: u8) {
        // SAFETY: `raw` is a live input.
        unsafe { ffi::engine_deliver(self.raw.as_ptr(), sample_rate as c_int, channels.into()) }
    }

    /// The next samples, `None` at the end.
    pub fn next(&mut self) -> Result<Option<Block<'_>>, Failed> {
        let mut block = ffi::Block { left: std::ptr::null_mut(), right: std::ptr::null_mut(), frames: 0 };
        // SAFETY: the decoder is started and the delivery chosen.
        let more = self.result(unsafe { ffi::engine_next(self.raw.as_ptr(), &mut block) })?;
        let frames = usize::try_from(block.frames).unwrap_or(0);
        // SAFETY: libav holds `frames` initialised floats at each pointer until the next call, which `&mut self`
        // rules out while the block lives; the two planes are different ones when the pointers differ.
        Ok(more.then(|| unsafe {
            Block {
                left: std::slice::from_raw_parts_mut(block.left, frames),
                right: (block.left != block.right)
                    .then(|| std::slice::from_raw_parts_mut(block.right, frames)),
            }
        }))
    }

    /// Did the container's reader meet what it could not read?
    pub fn stumbled(&self) -> bool {
        // SAFETY: reads a number of this thread, in which the input is read.
        unsafe { ffi::engine_log_of_demuxers() > 0 }
    }

    pub fn tally(&self) -> ffi::Tally {
        let mut tally = ffi::Tally::default();
        // SAFETY: `raw` is a live input.
        unsafe { ffi::engine_tallied(self.raw.as_ptr(), &mut tally) };
        tally
    }

    /// An error of the source or of the watcher that libav met as a failed read, perhaps taking it for the file's end.
    pub fn interrupted(&self) -> Result<(), Error> {
        if self.feed.pulse.stopped() {
            return Err(Error::cancelled());
        }
        self.feed.failure.take().map_or(Ok(()), |error| Err(Error::read_failed(error)))
    }

    fn result(&self, code: c_int) -> Result<bool, Failed> {
        if let Err(error) = self.interrupted() {
            return Err(Failed::Ours(error));
        }
        // SAFETY: pure function.
        match unsafe { ffi::engine_class(code) } {
            _ if code >= 0 => Ok(code > 0),
            ffi::NO_MEMORY => Err(Failed::Ours(Error::out_of_memory().because(complaint(code)))),
            ffi::IS_ENCRYPTED => Err(Failed::Encrypted),
            ffi::NOT_ALLOWED => Err(Failed::NotAllowed),
            ffi::NOT_IMPLEMENTED => Err(Failed::NotImplemented(complaint(code))),
            _ => Err(Failed::Libav(complaint(code))),
        }
    }
}

impl Drop for Reader<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: `raw` is live and not used again.
        unsafe { ffi::engine_input_free(self.raw.as_ptr()) }
    }
}

/// How a step failed; what it means depends on the step.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Decided already: the source, the watcher, memory.
    Ours(Error),
    Encrypted,
    /// A container that is not in the list.
    NotAllowed,
    /// What libav knows and cannot do.
    NotImplemented(String),
    /// libav's complaint.
    Libav(String),
}

impl From<&ffi::Stream> for Stream {
    fn from(raw: &ffi::Stream) -> Stream {
        // SAFETY: both arrays end in NUL: av_strlcpy wrote them, or they are zero.
        let (codec, codec_name) = unsafe { (text(raw.codec.as_ptr()), text(raw.codec_name.as_ptr())) };
        Stream {
            index: raw.index,
            id: u32::try_from(raw.id).ok(),
            is_default: raw.is_default != 0,
            is_secondary: raw.is_secondary != 0,
            decodable: raw.decodable != 0,
            encrypted: raw.encrypted != 0,
            sample_rate: u32::try_from(raw.sample_rate).unwrap_or(0),
            channels: u32::try_from(raw.channels).unwrap_or(0),
            tag: raw.tag.to_le_bytes(),
            duration: micros(raw.duration_us).filter(|duration| !duration.is_zero()),
            codec,
            codec_name,
            language: cut_text(&raw.language),
            title: cut_text(&raw.title),
        }
    }
}

/// What of a C string was left by a cut: no half character, nothing that moves a cursor.
pub(super) fn cut_text(from: &[c_char]) -> String {
    let bytes: Vec<u8> =
        from.iter().map(|&unit| unit.to_ne_bytes()[0]).take_while(|&byte| byte != 0).collect();
    let lossy = String::from_utf8_lossy(&bytes);
    lossy
        .trim_end_matches('\u{fffd}')
        .chars()
        .filter(|c| !c.is_control())
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Reads the source for libav.
///
/// SAFETY (of calls): `opaque` is the `Feed` given to `engine_input_new`, and `buffer` has room for `size` bytes.
unsafe extern "C" fn read(opaque: *mut c_void, offset: i64, buffer: *mut u8, size: c_int) -> c_int {
    // SAFETY: see above; the feed is only ever shared.
    let feed = unsafe { &*opaque.cast_const().cast::<Feed<'_, '_>>() };
    let (Ok(offset), Ok(size)) = (u64::try_from(offset), usize::try_from(size)) else { return -1 };
    if feed.pulse.beat().is_break() {
        return -1;
    }
    // SAFETY: libav's buffer has room for `size` bytes and is libav's to give; it was allocated, then filled or not,
    // and `u8` has no invalid value that we could read, as sources only write to it.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, size) };
    match feed.source.read_at(offset, buffer) {
        Ok(n) => {
            feed.patches.borrow().iter().for_each(|patch| patch.apply(&mut buffer[..n], offset));
            c_int::try_from(n).unwrap_or(-1)
        }
        Err(error) => {
            feed.failure.replace(Some(error));
            -1
        }
    }
}

/// Tells libav the next sample that it does not know: 1, 0 at the end.
///
/// SAFETY (of calls): `opaque` is the `Feed` given to `engine_input_new`; both numbers are there to be written.
unsafe extern "C" fn further(opaque: *mut c_void, position: *mut i64, size: *mut i32) -> c_int {
    // SAFETY: see above; the feed is only ever shared.
    let feed = unsafe { &*opaque.cast_const().cast::<Feed<'_, '_>>() };
    let next = match feed.unlisted.borrow_mut().as_mut().map_or(Ok(None), Samples::next) {
        Ok(next) => next,
        Err(error) => {
            feed.failure.replace(Some(error));
            None
        }
    };
    let place =
        next.and_then(|next| Some((i64::try_from(next.position).ok()?, i32::try_from(next.size).ok()?)));
    let Some((its_position, its_size)) = place else { return 0 };
    // SAFETY: see above.
    unsafe {
        position.write(its_position);
        size.write(its_size);
    }
    1
}

/// libav's words for `code` and the last of its log.
fn complaint(code: c_int) -> String {
    let mut words: [c_char; 2048] = [0; 2048];
    let room = words.len() as c_int;
    // SAFETY: both calls write at most `room` bytes and end them in NUL.
    unsafe {
        ffi::engine_error_text(code, words.as_mut_ptr(), room);
        let error = text(words.as_ptr());
        ffi::engine_log_read(words.as_mut_ptr(), room);
        match text(words.as_ptr()) {
            log if log.is_empty() => error,
            log => format!("{error}\n{log}"),
        }
    }
}

fn micros(us: i64) -> Option<Duration> {
    u64::try_from(us).ok().map(Duration::from_micros)
}

/// A C string; one that is not UTF-8 is taken for Latin-1, as old files mean it.
///
/// SAFETY (of calls): `from` points at a string that ends in NUL.
pub(super) unsafe fn text(from: *const c_char) -> String {
    // SAFETY: see above.
    let bytes = unsafe { CStr::from_ptr(from) }.to_bytes();
    str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|&byte| char::from(byte)).collect(), str::to_owned)
}
