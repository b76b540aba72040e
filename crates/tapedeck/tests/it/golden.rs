//! The golden facts of `media/`: what FFmpeg makes of each file, or the error that is right for it.

use crate::deck::{media, tool};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, process::Command};

/// What is right for a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Golden {
    Sound { samples: u64, rate: u32 },
    Error { error: String },
}

/// All files of `media/` with what is right for each.
pub fn all() -> BTreeMap<String, Golden> {
    toml::from_str(&std::fs::read_to_string(media("golden.toml")).unwrap()).unwrap()
}

/// Samples per channel that FFmpeg, an independent decoder, decodes from this file.
pub fn decoded_by_ffmpeg(file: &Path) -> u64 {
    let output = Command::new(tool("FFMPEG", "ffmpeg"))
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-map", "0:a:0", "-ac", "1", "-f", "s16le", "-c:a", "pcm_s16le", "-"])
        .output()
        .unwrap();
    output.stdout.len() as u64 / 2
}
