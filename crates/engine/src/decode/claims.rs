//! Lengths that headers claim and libav drops: it believes what it finds instead, so that a cut AVI, WMV or WAV file looks whole.

use std::io;
use std::time::Duration;

use crate::Source;

/// What the header of a file of this format claims, where libav would not tell.
pub(super) fn dropped(format: &str, source: &dyn Source) -> io::Result<Option<Duration>> {
    let read = |room: usize| {
        let mut head = vec![0; room];
        let n = source.read_at(0, &mut head)?;
        head.truncate(n);
        io::Result::Ok(head)
    };
    let claim = match format {
        "avi" => avi(&read(52)?),
        "wav" => wav(&read(64 * 1024)?),
        "asf" => asf(&read(64 * 1024)?),
        _ => None,
    };
    Ok(claim.filter(|claim| !claim.is_zero()))
}

/// The main header of an AVI file: frames, and microseconds per frame.
fn avi(head: &[u8]) -> Option<Duration> {
    if !head.starts_with(b"RIFF") || head.get(8..12)? != b"AVI " || head.get(24..28)? != b"avih" {
        return None;
    }
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    Some(Duration::from_micros(u64::from(number(32)?) * u64::from(number(48)?)))
}

/// The size of the data chunk over the bytes of a second. Programs that write to a pipe put the largest size that they know there.
fn wav(head: &[u8]) -> Option<Duration> {
    const NO_SIZE: u64 = 0x7fff_f000;
    if !head.starts_with(b"RIFF") || head.get(8..12)? != b"WAVE" {
        return None;
    }
    let number = |at: usize| Some(u64::from(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?)));
    let (mut at, mut bytes_per_second) = (12, 0);
    loop {
        let size = number(at + 4)?;
        match head.get(at..at + 4)? {
            b"fmt " => bytes_per_second = number(at + 16)?,
            b"data" if size >= NO_SIZE || bytes_per_second == 0 => return None,
            b"data" => return Some(Duration::from_secs_f64(size as f64 / bytes_per_second as f64)),
            _ => {}
        }
        at += 8 + usize::try_from(size + size % 2).ok()?;
    }
}

/// The GUID of the File Properties Object, by Microsoft's ASF specification, 3.2.
const FILE_PROPERTIES: [u8; 16] =
    [0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65];

/// Play duration in 100 ns, which counts the preroll in milliseconds; void in a broadcast.
fn asf(head: &[u8]) -> Option<Duration> {
    let start = head.windows(16).position(|window| window == FILE_PROPERTIES)?;
    let number = |at: usize| Some(u64::from_le_bytes(head.get(start + at..start + at + 8)?.try_into().ok()?));
    let (play, preroll, broadcast) = (number(64)?, number(80)?, head.get(start + 88)? & 1 == 1);
    let play = Duration::from_micros(play / 10).saturating_sub(Duration::from_millis(preroll));
    (!broadcast).then_some(play)
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
    fn a_wav_claims_the_size_of_its_data() {
        let wav = |size: u32| {
            let mut file =
                b"RIFF\0\0\0\0WAVEodd \x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0".to_vec();
            file.extend(8_000_u32.to_le_bytes());
            file.extend(b"\x01\0\x08\0data");
            file.extend(size.to_le_bytes());
            dropped("wav", &&file[..]).unwrap()
        };
        assert_eq!(wav(160_000), Some(Duration::from_secs(20)));
        assert_eq!((wav(u32::MAX), wav(0)), (None, None));
    }

    #[test]
    fn an_asf_file_claims_its_play_duration_less_the_preroll() {
        let mut file = vec![7; 30];
        file.extend(FILE_PROPERTIES);
        file.extend([0; 48]);
        file.extend(230_000_000_u64.to_le_bytes());
        file.extend([0; 8]);
        file.extend(3_000_u64.to_le_bytes());
        file.push(2);
        assert_eq!(dropped("asf", &&file[..]).unwrap(), Some(Duration::from_secs(20)));
        *file.last_mut().unwrap() = 1;
        assert_eq!(dropped("asf", &&file[..]).unwrap(), None);
        assert_eq!(dropped("asf", &&file[..90]).unwrap(), None);
    }
}
