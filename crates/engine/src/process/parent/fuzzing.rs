//! Fuzzing of what the parent makes of an engine process's words.

use std::io;

use super::*;
use crate::fuzzing::Bytes;

/// Some bytes, again and again, in pieces.
pub(in crate::process) struct Pieces<'a> {
    pub bytes: &'a [u8],
    pub times: usize,
    pub piece: usize,
    pub at: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.bytes.len() && self.times > 1 {
            (self.times, self.at) = (self.times - 1, 0);
        }
        let rest = &self.bytes[self.at..];
        let n = rest.len().min(buffer.len()).min(self.piece);
        buffer[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }
}

/// A child that says anything and ends anyhow: progress never goes back, nothing is kept beyond its bound, and what is taken for done can be
/// used.
pub(in crate::process) fn hear_any(bytes: &mut Bytes<'_>) {
    let output = bytes.number::<2>();
    let status = ExitStatus::from_raw(bytes.choose(&[0, 0, 0, 256, 9, 24, 31, 65]));
    let piece = bytes.choose(&[usize::MAX, usize::MAX, 1, 100]);
    let times = bytes.choose(&[1, 1, 1, 2, 10_000]);
    let errors = bytes.take(16);
    let control = bytes.rest();
    // Of something that is said again and again there is so much.
    let times = times.min((2 << 20) / control.len().max(1) + 1);
    let limits = Limits { output: 40_000, ..Limits::default() };
    let (mut sink, mut fraction) = (Vec::new(), 0.0);
    let mut watch = |progress: Progress| {
        assert!((fraction..=1.0).contains(&progress.fraction));
        fraction = progress.fraction;
    };
    let (heard, chunk) = (Heard::default(), vec![0; CHUNK]);
    let mut watcher =
        Watcher { sink: &mut sink, watch: &mut watch, limits: &limits, heard, told: None, chunk };
    let mut control = Pieces { bytes: control, times, piece, at: 0 };
    if let Ok(summary) =
        hear_all(&mut watcher, output, errors, &mut control).and_then(|()| watcher.conclude(status))
    {
        assert!(status.success() && summary.bytes == output && sink.len() as u64 == output);
        assert!(summary.samples > 0);
        let _ = summary.duration();
    }
}

fn hear_all(
    watcher: &mut Watcher<'_>,
    output: u64,
    errors: &[u8],
    control: &mut impl Read,
) -> Result<(), Error> {
    let (mut errors, mut output) =
        (Pieces { bytes: errors, times: 1000, piece: 100, at: 0 }, io::repeat(7).take(output));
    while watcher.hear_errors(&mut errors) {
        assert!(watcher.heard.errors.len() <= 4096);
    }
    while watcher.pass_on(&mut output)? {}
    while watcher.hear(control)? {
        assert!(watcher.heard.line.len() <= wire::LONGEST, "a line without end");
    }
    Ok(())
}
