//! What is converted: videos that FFmpeg makes once and the temporary folder keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Makes videos.
pub struct Studio<'a> {
    pub ffmpeg: &'a Path,
    pub folder: &'a Path,
}

/// A container, and how its video and sound are coded.
pub struct Kind {
    pub name: &'static str,
    pub ending: &'static str,
    pub codecs: &'static [&'static str],
    /// The recording in `media/` whose sound it has, again and again, where FFmpeg has no encoder for it.
    pub sound_of: Option<&'static str>,
}

impl Kind {
    const fn new(name: &'static str, ending: &'static str, codecs: &'static [&'static str]) -> Kind {
        Kind { name, ending, codecs, sound_of: None }
    }
}

/// As a camera or a phone makes it.
pub const MP4: Kind = Kind::new("MP4, AAC", "mp4", &["-c:v", "libx264", "-c:a", "aac", "-b:a", "160k"]);

/// Other containers, each with a codec that is common in it.
pub const OTHERS: [Kind; 10] = [
    Kind::new("WebM, Opus", "webm", &["-c:v", "libvpx", "-c:a", "libopus", "-ar", "48000"]),
    Kind::new("MKV, AC-3", "mkv", &["-c:v", "libx264", "-c:a", "ac3"]),
    Kind::new("MKV, FLAC", "flac.mkv", &["-c:v", "libx264", "-c:a", "flac"]),
    Kind::new("MOV, PCM", "mov", &["-c:v", "libx264", "-c:a", "pcm_s16le"]),
    Kind::new("AVI, PCM", "avi", &["-c:v", "mpeg4", "-c:a", "pcm_s16le"]),
    Kind::new("MPEG-TS, AAC", "ts", &["-c:v", "libx264", "-c:a", "aac"]),
    Kind::new("WMV, WMA", "wmv", &["-c:v", "wmv2", "-c:a", "wmav2"]),
    Kind::new("FLV, AAC", "flv", &["-c:v", "flv", "-c:a", "aac"]),
    Kind::new("3GP, AAC", "3gp", &["-c:v", "libx264", "-c:a", "aac", "-ar", "32000"]),
    Kind {
        sound_of: Some("mp4__film_he_aac.mp4"),
        ..Kind::new("MP4, HE-AAC", "he.mp4", &["-c:v", "libx264", "-c:a", "copy"])
    },
];

/// Without a picture, uncompressed: what LAME's own command line reads.
pub const WAV: Kind = Kind::new("WAV", "wav", &["-vn", "-c:a", "pcm_s16le"]);

impl Studio<'_> {
    /// A test pattern with a sweeping chord and beats over pink noise, so many seconds long.
    pub fn video(&self, kind: &Kind, seconds: u32) -> Result<PathBuf> {
        let video = self.folder.join(format!("pattern-{seconds}.{}", kind.ending));
        if video.is_file() {
            return Ok(video);
        }
        println!("making {}", video.display());
        // Under another name until it is whole.
        let part = self.folder.join(format!("part.{}", kind.ending));
        let mut make = Command::new(self.ffmpeg);
        make.args(["-hide_banner", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25"]);
        match kind.sound_of {
            Some(recording) => {
                let sound = self.again_and_again(&crate::root().join("media").join(recording), seconds)?;
                make.arg("-i").arg(sound).args(["-map", "0:v", "-map", "1:a"]);
            }
            None => pattern(&mut make),
        }
        make.args(["-t", &seconds.to_string()]);
        make.args(["-preset", "ultrafast", "-deadline", "realtime", "-cpu-used", "8", "-pix_fmt", "yuv420p"]);
        make.args(kind.codecs);
        crate::finish(
            make.arg(&part),
            "ffmpeg needs the encoders that it names above, which the Debian package has",
        )?;
        fs::rename(&part, &video).with_context(|| format!("{} could not be renamed", part.display()))?;
        Ok(video)
    }

    /// The AAC of a recording as a stream of its own, as often as it takes to be longer than so many seconds.
    fn again_and_again(&self, recording: &Path, seconds: u32) -> Result<PathBuf> {
        let stream = self.folder.join("sound.aac");
        let mut copy = Command::new(self.ffmpeg);
        copy.args(["-hide_banner", "-v", "error", "-y", "-i"]).arg(recording);
        copy.args(["-vn", "-c:a", "copy", "-f", "adts"]).arg(&stream);
        crate::finish(&mut copy, "see above for FFmpeg's error")?;
        let once = fs::read(&stream).with_context(|| format!("{} could not be read", stream.display()))?;
        let all = once.repeat(usize::try_from(seconds / RECORDING + 1)?);
        fs::write(&stream, all).with_context(|| format!("{} could not be written", stream.display()))?;
        Ok(stream)
    }
}

/// Seconds that a recording whose sound is repeated has at least.
const RECORDING: u32 = 30;

/// A sweeping chord and beats over pink noise.
fn pattern(make: &mut Command) {
    let chord = |one: u32, two: u32| {
        format!(
            "0.2*sin(2*PI*{one}*t+40*sin(t/3))+0.15*sin(2*PI*{two}*t+90*sin(t/7))*(0.6+0.4*sin(2*PI*2*t))\
             +0.2*(random({one})-0.5)*exp(-12*mod(t\\,0.5))"
        )
    };
    let tones =
        format!("aevalsrc={}|{}:sample_rate=44100:channel_layout=stereo", chord(220, 587), chord(277, 880));
    make.args(["-f", "lavfi", "-i", &tones]);
    make.args(["-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.1:seed=1:sample_rate=44100"]);
    make.args(["-filter_complex", "[2:a]pan=stereo|c0=c0|c1=c0[noise];[1:a][noise]amix=inputs=2[sound]"]);
    make.args(["-map", "0:v", "-map", "[sound]"]);
}
