//! What headers claim and libav drops: it believes what it finds instead, so that a cut AVI, WMV or WAV file looks whole.

use std::io;
use std::time::Duration;

use super::boxes::read;
use crate::Source;

/// From here on a size of 32 bits says that the size is not known: programs that write to a pipe put the largest that they know there.
const NO_SIZE: u64 = 0x7fff_0000;

/// The duration that the header of a file of this format claims, where libav would not tell.
pub(super) fn dropped(format: &str, source: &dyn Source) -> io::Result<Option<Duration>> {
    let claim = match format {
        "avi" => avi(&head(source, 52)?),
        "asf" => asf(&head(source, 64 * 1024)?).map(|claim| claim.duration),
        _ => None,
    };
    Ok(claim.filter(|claim| !claim.is_zero()))
}

/// Where the header of a file of this format says that its content ends, in bytes.
pub(super) fn end(format: &str, source: &dyn Source, size: u64) -> io::Result<Option<u64>> {
    match format {
        "avi" => riffs_end(source, size),
        "wav" => wav_end(source, size),
        "asf" => Ok(asf(&head(source, 64 * 1024)?).map(|claim| claim.end)),
        _ if format.starts_with("matroska") => segment_end(source),
        _ => Ok(None),
    }
}

/// Whether an FLV file ends with a whole tag, and when: a tag's size stands before and behind it.
pub(super) fn last_flv_tag(source: &dyn Source, size: u64) -> io::Result<Option<Duration>> {
    let (mut behind, mut tag) = ([0; 4], [0; 8]);
    let Some(end) = size.checked_sub(4) else { return Ok(None) };
    read(source, end, &mut behind)?;
    let length = u32::from_be_bytes(behind);
    let Some(start) = end.checked_sub(length.into()) else { return Ok(None) };
    read(source, start, &mut tag)?;
    let [kind, a, b, c, time @ ..] = tag;
    let is_whole =
        [8, 9, 18].contains(&kind) && u32::from_be_bytes([0, a, b, c]).checked_add(11) == Some(length);
    let [low @ .., high] = time; // 24 bits, then the highest 8.
    let milliseconds = u32::from_be_bytes([high, low[0], low[1], low[2]]);
    Ok(is_whole.then(|| Duration::from_millis(milliseconds.into())))
}

/// Whether an Ogg file holds video: every track begins on one of the first pages, with the name of its codec.
pub(super) fn ogg_has_video(source: &dyn Source) -> io::Result<bool> {
    let head = head(source, 4096)?;
    let names: [&[u8]; 4] = [b"\x80theora", b"BBCD\0", b"OVP80", b"\x01video\0"];
    Ok(names.iter().any(|&name| head.windows(name.len()).any(|window| window == name)))
}

fn head(source: &dyn Source, room: usize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; room];
    let n = read(source, 0, &mut head)?;
    head.truncate(n);
    Ok(head)
}

/// The main header of an AVI file: frames, and microseconds per frame.
fn avi(head: &[u8]) -> Option<Duration> {
    if !head.starts_with(b"RIFF") || head.get(8..12)? != b"AVI " || head.get(24..28)? != b"avih" {
        return None;
    }
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    Some(Duration::from_micros(u64::from(number(32)?) * u64::from(number(48)?)))
}

/// The end of the last RIFF of an AVI file: large ones (OpenDML) are several in a row.
fn riffs_end(source: &dyn Source, size: u64) -> io::Result<Option<u64>> {
    const MOST: usize = 10_000;
    let mut end = 0;
    for _ in 0..MOST {
        let mut head = [0; 12];
        if end >= size || read(source, end, &mut head)? < head.len() || !head.starts_with(b"RIFF") {
            break;
        }
        let length = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        if length >= NO_SIZE {
            return Ok(None);
        }
        end += 8 + length + length % 2;
    }
    Ok(Some(end))
}

/// The end of the data chunk, unless it claims the impossible. Its size in seconds is nobody's to tell: the header's byte rate is often wrong.
fn wav_end(source: &dyn Source, size: u64) -> io::Result<Option<u64>> {
    const MOST: usize = 1000;
    let mut head = [0; 12];
    read(source, 0, &mut head)?;
    if !head.starts_with(b"RIFF") || !head.ends_with(b"WAVE") {
        return Ok(None);
    }
    let mut at = 12;
    for _ in 0..MOST {
        let mut chunk = [0; 8];
        if at >= size || read(source, at, &mut chunk)? < chunk.len() {
            break;
        }
        let [name @ .., a, b, c, d] = chunk;
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        at += 8;
        if name == *b"data" {
            let there = size.saturating_sub(at);
            return Ok((length < NO_SIZE && length <= there.saturating_mul(10)).then_some(at + length));
        }
        at += length + length % 2;
    }
    Ok(None)
}

/// The end of the Segment of a Matroska file (RFC 8794 for numbers and sizes); a size of ones alone is not known.
fn segment_end(source: &dyn Source) -> io::Result<Option<u64>> {
    const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
    const MOST: usize = 16;
    let mut at = 0_u64;
    for _ in 0..MOST {
        let mut head = [0; 12];
        let there = read(source, at, &mut head)?;
        let id = head[0].leading_zeros() as usize + 1;
        let Some(&first) = head.get(id).filter(|_| id <= 4) else { break };
        let length = first.leading_zeros() as usize + 1;
        if length > 8 || there < id + length {
            break;
        }
        let mask = (1 << (7 * length)) - 1;
        let size = head[id..id + length].iter().fold(0, |size, byte| size << 8 | u64::from(*byte)) & mask;
        if size == mask {
            break;
        }
        at = at.saturating_add((id + length) as u64).saturating_add(size);
        if head.starts_with(&SEGMENT) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The GUID of the File Properties Object, by Microsoft's ASF specification, 3.2.
const FILE_PROPERTIES: [u8; 16] =
    [0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65];

/// What the File Properties Object claims.
#[derive(Debug, PartialEq)]
struct Asf {
    duration: Duration,
    /// The size of the file.
    end: u64,
}

/// Play duration in 100 ns, which counts the preroll in milliseconds; all void in a broadcast.
fn asf(head: &[u8]) -> Option<Asf> {
    let start = head.windows(16).position(|window| window == FILE_PROPERTIES)?;
    let number = |at: usize| Some(u64::from_le_bytes(head.get(start + at..start + at + 8)?.try_into().ok()?));
    let (end, play, preroll) = (number(40)?, number(64)?, number(80)?);
    let broadcast = head.get(start + 88)? & 1 == 1;
    let duration = Duration::from_micros(play / 10).saturating_sub(Duration::from_millis(preroll));
    (!broadcast).then_some(Asf { duration, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_avi_claims_frames_times_their_duration() {
        let mut file = b"RIFF\0\0\0\0AVI LIST\0\0\0\0hdrlavih\x38\0\0\0".to_vec();
        file.extend(40_000_u32.to_le_bytes());
        file.extend([0; 12]);
        file.extend(500_u32.to_le_bytes());
        assert_eq!(dropped("avi", &&file[..]).unwrap(), Some(Duration::from_secs(20)));
        assert_eq!(dropped("avi", &&file[..40]).unwrap(), None);
        assert_eq!(dropped("wav", &&file[..]).unwrap(), None);
    }

    #[test]
    fn an_avi_ends_where_its_last_riff_does() {
        let file = b"RIFF\x08\0\0\0AVI abcdRIFF\x40\0\0\0AVIX";
        assert_eq!(end("avi", &&file[..], 28).unwrap(), Some(16 + 8 + 64));
        assert_eq!(end("avi", &&b"RIFF\xff\xff\xff\xffAVI "[..], 12).unwrap(), None);
    }

    #[test]
    fn a_wav_claims_the_size_of_its_data() {
        let wav = |size: u32| {
            let mut file =
                b"RIFF\0\0\0\0WAVEodd \x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0".to_vec();
            file.extend(8_000_u32.to_le_bytes());
            file.extend(b"\x01\0\x08\0data");
            file.extend(size.to_le_bytes());
            let start = file.len() as u64;
            file.extend([0; 100]);
            end("wav", &&file[..], file.len() as u64).unwrap().map(|end| end - start)
        };
        assert_eq!((wav(100), wav(900), wav(0)), (Some(100), Some(900), Some(0)));
        assert_eq!((wav(u32::MAX), wav(1001)), (None, None));
    }

    #[test]
    fn a_matroska_file_claims_the_size_of_its_segment() {
        let segment = |size: &[u8]| {
            let file = [b"\x1a\x45\xdf\xa3\x82ab\x18\x53\x80\x67", size].concat();
            end("matroska,webm", &&file[..], 100).unwrap()
        };
        assert_eq!(segment(&[0x01, 0, 0, 0, 0, 0, 1, 0]), Some(19 + 256));
        assert_eq!(segment(&[0x41, 0]), Some(13 + 256));
        assert_eq!(segment(&[0x01, 255, 255, 255, 255, 255, 255, 255]), None);
        assert_eq!((segment(&[0xff]), segment(&[]), segment(&[0])), (None, None, None));
    }

    #[test]
    fn the_last_tag_of_an_flv_file_is_whole_or_none() {
        let file = b"FLV\x09\0\0\x02\0\x03\xe8\x01\0\0\0ab\0\0\0\x0d";
        let last = |file: &[u8]| last_flv_tag(&file, file.len() as u64).unwrap();
        assert_eq!(last(file), Some(Duration::from_millis(0x0100_03e8)));
        assert_eq!((last(&file[..18]), last(b"ab"), last(&[0xff; 40])), (None, None, None));
    }

    #[test]
    fn an_asf_file_claims_its_play_duration_less_the_preroll() {
        let mut file = vec![7; 30];
        file.extend(FILE_PROPERTIES);
        file.extend([0; 24]);
        file.extend(1_000_u64.to_le_bytes());
        file.extend([0; 16]);
        file.extend(230_000_000_u64.to_le_bytes());
        file.extend([0; 8]);
        file.extend(3_000_u64.to_le_bytes());
        file.push(2);
        assert_eq!(dropped("asf", &&file[..]).unwrap(), Some(Duration::from_secs(20)));
        assert_eq!(end("asf", &&file[..], 100).unwrap(), Some(1_000));
        *file.last_mut().unwrap() = 1;
        assert_eq!(dropped("asf", &&file[..]).unwrap(), None);
        assert_eq!(dropped("asf", &&file[..90]).unwrap(), None);
    }
}
