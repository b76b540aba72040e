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
}

/// As a camera or a phone makes it.
pub const MP4: Kind =
    Kind { name: "MP4, AAC", ending: "mp4", codecs: &["-c:v", "libx264", "-c:a", "aac", "-b:a", "160k"] };

/// Other containers, each with a codec that is common in it.
pub const OTHERS: [Kind; 9] = [
    Kind {
        name: "WebM, Opus",
        ending: "webm",
        codecs: &["-c:v", "libvpx", "-c:a", "libopus", "-ar", "48000"],
    },
    Kind { name: "MKV, AC-3", ending: "mkv", codecs: &["-c:v", "libx264", "-c:a", "ac3"] },
    Kind { name: "MKV, FLAC", ending: "flac.mkv", codecs: &["-c:v", "libx264", "-c:a", "flac"] },
    Kind { name: "MOV, PCM", ending: "mov", codecs: &["-c:v", "libx264", "-c:a", "pcm_s16le"] },
    Kind { name: "AVI, PCM", ending: "avi", codecs: &["-c:v", "mpeg4", "-c:a", "pcm_s16le"] },
    Kind { name: "MPEG-TS, AAC", ending: "ts", codecs: &["-c:v", "libx264", "-c:a", "aac"] },
    Kind { name: "WMV, WMA", ending: "wmv", codecs: &["-c:v", "wmv2", "-c:a", "wmav2"] },
    Kind { name: "FLV, AAC", ending: "flv", codecs: &["-c:v", "flv", "-c:a", "aac"] },
    Kind { name: "3GP, AAC", ending: "3gp", codecs: &["-c:v", "libx264", "-c:a", "aac", "-ar", "32000"] },
];

/// Without a picture, uncompressed: what LAME's own command line reads.
pub const WAV: Kind = Kind { name: "WAV", ending: "wav", codecs: &["-vn", "-c:a", "pcm_s16le"] };

impl Studio<'_> {
    /// A test pattern with a sweeping chord and beats over pink noise, so many seconds long.
    pub fn video(&self, kind: &Kind, seconds: u32) -> Result<PathBuf> {
        let video = self.folder.join(format!("pattern-{seconds}.{}", kind.ending));
        if video.is_file() {
            return Ok(video);
        }
        println!("making {}", video.display());
        let chord = |one: u32, two: u32| {
            format!(
                "0.2*sin(2*PI*{one}*t+40*sin(t/3))+0.15*sin(2*PI*{two}*t+90*sin(t/7))*(0.6+0.4*sin(2*PI*2*t))\
                 +0.2*(random({one})-0.5)*exp(-12*mod(t\\,0.5))"
            )
        };
        let tones = format!(
            "aevalsrc={}|{}:sample_rate=44100:channel_layout=stereo",
            chord(220, 587),
            chord(277, 880)
        );
        // Under another name until it is whole.
        let part = self.folder.join(format!("part.{}", kind.ending));
        let mut make = Command::new(self.ffmpeg);
        make.args(["-hide_banner", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25"]);
        make.args(["-f", "lavfi", "-i", &tones]);
        make.args(["-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.1:seed=1:sample_rate=44100"]);
        make.args(["-filter_complex", "[2:a]pan=stereo|c0=c0|c1=c0[noise];[1:a][noise]amix=inputs=2[sound]"]);
        make.args(["-map", "0:v", "-map", "[sound]", "-t", &seconds.to_string()]);
        make.args(["-preset", "ultrafast", "-deadline", "realtime", "-cpu-used", "8", "-pix_fmt", "yuv420p"]);
        make.args(kind.codecs);
        crate::finish(
            make.arg(&part),
            "ffmpeg needs the encoders that it names above, which the Debian package has",
        )?;
        fs::rename(&part, &video).with_context(|| format!("{} could not be renamed", part.display()))?;
        Ok(video)
    }
}
