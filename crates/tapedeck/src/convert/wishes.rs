//! What `tapedeck convert` is asked to make: the engine's options as flags.

use clap::Args;
use engine::{Loudness, Options, Preset, Quality, Trim};

/// The flags of [`engine::Options`].
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What to make")]
pub struct Wishes {
    /// music (VBR V2, about 190 kbit/s), voice (mono, VBR V5, about 60), small (VBR V7, about 100) or original (CBR 128, 44.1 kHz, stereo)
    #[arg(long, default_value_t, value_name = "PRESET")]
    preset: Preset,
    /// Variable bit rate in place of the preset's, 0 (best) to 9 (smallest)
    #[arg(long, value_name = "0..9", conflicts_with_all = ["cbr", "abr"])]
    vbr: Option<u8>,
    /// Constant bit rate in kbit/s: 8 to 320; the sample rate follows where MP3 wants it
    #[arg(long, value_name = "KBIT", conflicts_with = "abr")]
    cbr: Option<u16>,
    /// Variable bit rate with this mean in kbit/s: 8 to 310
    #[arg(long, value_name = "KBIT")]
    abr: Option<u16>,
    /// One channel
    #[arg(long)]
    mono: bool,
    /// Which sound track, counted from 1; without it, the container's default
    #[arg(long, value_name = "NUMBER")]
    track: Option<u32>,
    /// A piece alone: 90-120.5, 1:30-2:00, 1:02:03- or -0:30
    #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
    trim: Option<Trim>,
    /// Bring the sound to this loudness by EBU R128, or as near as a true peak of -1 dBTP allows: -16 for podcasts, -23 for broadcasts
    #[arg(long, value_name = "LUFS", allow_hyphen_values = true)]
    loudness: Option<Loudness>,
    /// Set a tag in place of the video's, such as artist=Ana; an empty one takes the video's away
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write a name, an equals sign and a value: artist=Ana")?;
    Ok((name.trim().to_lowercase(), value.to_owned()))
}

impl Wishes {
    /// The engine's options, checked; without a title.
    pub fn options(&self) -> Result<Options, engine::Error> {
        let vbr = self.vbr.map(Quality::Vbr);
        let options = Options {
            preset: self.preset,
            quality: vbr.or(self.cbr.map(Quality::Cbr)).or(self.abr.map(Quality::Abr)),
            mono: self.mono,
            track: self.track,
            trim: self.trim,
            loudness: self.loudness,
            title: None,
            tags: self.tags.iter().cloned().collect(),
        };
        options.check().map(|()| options)
    }
}
