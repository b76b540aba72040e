//! Where what is made of each file goes, so that nothing takes another's place.

use super::Failure;
use crate::cli::Convert;
use std::path::{Path, PathBuf};

/// Where what is made of one file goes.
pub struct Places {
    pub mp3: PathBuf,
    pub peaks: Option<PathBuf>,
}

/// The places for each file.
pub fn places(wish: &Convert) -> Result<Vec<Places>, Failure> {
    let mp3s = outputs(wish, "-o", wish.output.as_deref(), "mp3")?;
    let peaks = match &wish.peaks {
        Some(peaks) => outputs(wish, "--peaks", Some(peaks), "json")?.into_iter().map(Some).collect(),
        None => vec![None; mp3s.len()],
    };
    let places: Vec<_> = mp3s.into_iter().zip(peaks).map(|(mp3, peaks)| Places { mp3, peaks }).collect();
    let mut taken: Vec<(&Path, &Path)> = Vec::new();
    for (file, places) in wish.files.iter().zip(&places) {
        for place in [Some(&places.mp3), places.peaks.as_ref()].into_iter().flatten() {
            if let Some((earlier, _)) = taken.iter().find(|(_, taken)| taken == place) {
                return Err(collision(earlier, file, place));
            }
            taken.push((file, place));
        }
    }
    Ok(places)
}

/// The files that `flag` asks for; without it, beside the videos.
fn outputs(wish: &Convert, flag: &str, output: Option<&Path>, ending: &str) -> Result<Vec<PathBuf>, Failure> {
    let into_folder = output.filter(|output| output.is_dir());
    if let (Some(output), None) = (output, into_folder)
        && wish.files.len() > 1
    {
        let output = output.display();
        let why =
            format!("with several files, {flag} must name a folder, and {output} is none: make it first");
        return Err(Failure::Usage(why));
    }
    let beside = |file: &Path| file.with_extension(ending);
    let place = |file: &PathBuf| match (into_folder, output) {
        (Some(folder), _) => folder.join(beside(file).file_name().unwrap_or_default()),
        (None, Some(output)) => output.to_owned(),
        (None, None) => beside(file),
    };
    Ok(wish.files.iter().map(place).collect())
}

fn collision(one: &Path, other: &Path, place: &Path) -> Failure {
    let (one, other, place) = (one.display(), other.display(), place.display());
    Failure::Usage(format!("{one} and {other} would both become {place}; convert them one by one with -o"))
}
