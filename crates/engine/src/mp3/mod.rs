//! Walks a stored MP3 from end to end: is it whole, and how long is it?
//!
//! Formats: frame headers by ISO/IEC 11172-3 and 13818-3, ID3v2 by id3.org, the Info frame by the description of LAME's tag
//! (<http://gabriel.mp3-tech.org/mp3infotag.html>) as LAME 3.100 writes it.

pub(crate) mod foreign;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod info;
pub(crate) mod pack;
pub(crate) mod splice;
pub(crate) mod unpack;

use std::io::{self, BufReader, Read};

use frame::Header;
pub(crate) use info::Tally;
use info::{Info, crc16};

/// What a sound MP3 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Frames with sound; the Info frame is not counted.
    pub frames: u64,
    /// Samples per channel, exact: less the encoder's delay and padding.
    pub samples: u64,
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// All bytes, tags included.
    pub bytes: u64,
}

/// Why an MP3 is not as the engine wrote it, or could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the MP3 is damaged at byte {offset}: {what}")]
pub struct Defect {
    /// Where, in bytes from the start.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The reader's own error, when that is the cause.
    #[source]
    pub source: Option<io::Error>,
}

/// Reads an MP3 to its end, in constant memory: an ID3v2 tag or none, the Info frame, and frames of one format without a gap.
///
/// Anything cut, changed, added or foreign is a [`Defect`]: the Info frame's count, sizes and checksums must fit what follows.
pub fn check(reader: impl Read) -> Result<Facts, Defect> {
    let mut walk = Walk { reader: BufReader::with_capacity(64 * 1024, reader), offset: 0 };
    let mut head = walk.id3v2()?;
    let first = walk.offset - head.len() as u64;
    let header = walk.header(&head)?;
    let mut buffer = [0; frame::LARGEST];
    let info_frame = walk.frame(&mut head, &header, &mut buffer)?;
    let info = Info::parse(&header, info_frame).map_err(|what| walk.defect(what))?;

    let (mut frames, mut crc) = (0, 0);
    while walk.fill(&mut head)? {
        let next = walk.header(&head)?;
        if !next.same_format(&header) {
            return Err(walk.defect("the format changes"));
        }
        crc = crc16(crc, walk.frame(&mut head, &next, &mut buffer)?);
        frames += 1;
    }
    let stream = walk.offset - first;
    let fits = [
        (frames == u64::from(info.frames), "the count of frames differs from what the Info frame says"),
        (stream == u64::from(info.bytes), "the size differs from what the Info frame says"),
        (stream == u64::from(info.music_bytes), "the size differs from what LAME's tag says"),
        (crc == info.music_crc, "the checksum of the frames differs"),
    ];
    if let Some((_, what)) = fits.into_iter().find(|(fits, _)| !fits) {
        return Err(walk.defect(what));
    }
    let cut = u64::from(info.delay) + u64::from(info.padding);
    let samples = (frames * u64::from(header.samples)).checked_sub(cut);
    let samples = samples.ok_or_else(|| walk.defect("delay and padding are more than there is"))?;
    Ok(Facts {
        frames,
        samples,
        sample_rate: header.sample_rate,
        channels: header.channels,
        bytes: walk.offset,
    })
}

const NO_FRAME: &str = "no MP3 frame begins here";
/// So far behind a tag a foreign MP3's first frame is looked for.
const SEARCHED: usize = 64 * 1024;

/// Reads an MP3 of any encoder's: how long it is, as far as its frames go. A tag at its end, or a last frame that is cut, is
/// nothing to complain of; a file that does not begin as an MP3 is a [`Defect`].
pub fn measure(reader: impl Read) -> Result<Facts, Defect> {
    let mut walk = Walk { reader: BufReader::with_capacity(64 * 1024, reader), offset: 0 };
    let mut head = walk.id3v2()?;
    let header = walk.search(&mut head)?;
    let mut buffer = [0; frame::LARGEST];
    let first = walk.frame(&mut head, &header, &mut buffer)?;
    let tag = first.get(header.content()..).unwrap_or_default();
    let mut frames = u64::from(!(tag.starts_with(b"Info") || tag.starts_with(b"Xing")));
    while let Ok(true) = walk.fill(&mut head) {
        let Some(next) = Header::parse(head).filter(|next| next.same_format(&header)) else { break };
        match walk.frame(&mut head, &next, &mut buffer) {
            Ok(_) => frames += 1,
            Err(Defect { source: Some(error), .. }) => {
                return Err(Defect { source: Some(error), ..walk.defect("it cannot be read") });
            }
            Err(_) => break,
        }
    }
    // The rest is read, too: whoever counts or hashes what passes has all of it.
    let rest = io::copy(&mut walk.reader, &mut io::sink());
    let rest = rest.map_err(|error| Defect { source: Some(error), ..walk.defect("it cannot be read") })?;
    Ok(Facts {
        frames,
        samples: frames * u64::from(header.samples),
        sample_rate: header.sample_rate,
        channels: header.channels,
        bytes: walk.offset + rest,
    })
}

/// A reader that knows where it is.
struct Walk<R> {
    reader: BufReader<R>,
    offset: u64,
}

impl<R: Read> Walk<R> {
    fn defect(&self, what: &str) -> Defect {
        Defect { offset: self.offset, what: what.to_owned(), source: None }
    }

    /// Fills `buffer`; false at the very end, a defect within.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Defect> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.defect("it breaks off")),
                Ok(n) => {
                    filled += n;
                    self.offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Defect {
                        offset: self.offset,
                        what: "it cannot be read".into(),
                        source: Some(error),
                    });
                }
            }
        }
        Ok(true)
    }

    fn need(&mut self, buffer: &mut [u8]) -> Result<(), Defect> {
        if self.fill(buffer)? { Ok(()) } else { Err(self.defect("it breaks off")) }
    }

    /// Reads past an ID3v2 tag, if there is one; returns the four bytes that follow.
    fn id3v2(&mut self) -> Result<[u8; 4], Defect> {
        let mut head = [0; 4];
        self.need(&mut head)?;
        if !head.starts_with(b"ID3") {
            return Ok(head);
        }
        let mut rest = [0; 6];
        self.need(&mut rest)?;
        let [_revision, flags, size @ ..] = rest;
        if size.iter().any(|byte| byte & 0x80 != 0) {
            return Err(self.defect("the ID3 tag has no valid size"));
        }
        let footer = if flags & 0x10 != 0 { 10 } else { 0 };
        let size = size.iter().fold(0, |sum, byte| sum << 7 | u64::from(*byte)) + footer;
        let skipped = io::copy(&mut self.reader.by_ref().take(size), &mut io::sink());
        self.offset += skipped.as_ref().copied().unwrap_or(0);
        match skipped {
            Ok(skipped) if skipped == size => self.need(&mut head).map(|()| head),
            Ok(_) => Err(self.defect("it breaks off within its tag")),
            Err(error) => {
                Err(Defect { offset: self.offset, what: "it cannot be read".into(), source: Some(error) })
            }
        }
    }

    /// The first frame's header, which other encoders' padding or further tags may stand before.
    fn search(&mut self, head: &mut [u8; 4]) -> Result<Header, Defect> {
        for _ in 0..SEARCHED {
            if let Some(header) = Header::parse(*head) {
                return Ok(header);
            }
            let mut next = [0];
            self.need(&mut next).map_err(|defect| Defect { what: NO_FRAME.into(), ..defect })?;
            head.rotate_left(1);
            head[3] = next[0];
        }
        Err(self.defect(NO_FRAME))
    }

    fn header(&self, head: &[u8; 4]) -> Result<Header, Defect> {
        Header::parse(*head).ok_or_else(|| Defect {
            offset: self.offset - 4,
            what: NO_FRAME.into(),
            source: None,
        })
    }

    /// Reads what is left of the frame that begins with `head`.
    fn frame<'b>(
        &mut self,
        head: &mut [u8; 4],
        header: &Header,
        buffer: &'b mut [u8; frame::LARGEST],
    ) -> Result<&'b [u8], Defect> {
        let frame = &mut buffer[..header.size];
        frame[..4].copy_from_slice(head);
        self.need(&mut frame[4..])?;
        Ok(frame)
    }
}
