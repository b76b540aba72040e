//! libav from FFmpeg's source: the containers and decoders that the engine admits, and nothing else.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{copy, make, read};

/// Where the engine keeps its lists.
const LISTS: &str = "crates/engine/src/decode/formats.rs";

/// Names that `configure` spells differently from the library.
const SPELLINGS: &[(&str, &str)] = &[
    ("mpeg", "mpegps"),
    ("atrac3plus", "atrac3p"),
    ("atrac3plusal", "atrac3pal"),
    ("g722", "adpcm_g722"),
    ("g726", "adpcm_g726"),
    ("g726le", "adpcm_g726le"),
    ("real_144", "ra_144"),
    ("real_288", "ra_288"),
];

/// Those that some container or decoder of the lists wants.
const PARSERS: &str =
    "aac,aac_latm,ac3,amr,cook,dca,dvaudio,flac,g723_1,g729,gsm,mlp,mpegaudio,opus,sipr,tak,vorbis";

/// Containers that the engine refuses, and that are there to be recognised: where libav does not know a picture or a film without a container
/// for what it is, it takes it for MP3 or MPEG, and people hear that their file is damaged. They are asked whether a file is theirs, and
/// never opened: the engine's list is what may be.
const RECOGNISED: &[&str] = &[
    "apng",
    "dirac",
    "gif",
    "h263",
    "h264",
    "hevc",
    "image_bmp_pipe",
    "image_gif_pipe",
    "image_j2k_pipe",
    "image_jpeg_pipe",
    "image_jpegxl_pipe",
    "image_png_pipe",
    "image_psd_pipe",
    "image_svg_pipe",
    "image_tiff_pipe",
    "image_webp_pipe",
    "ivf",
    "m4v",
    "mjpeg",
    "mpegvideo",
    "obu",
    "vc1",
    "yuv4mpegpipe",
];

const OPTIONS: &[&str] = &[
    "--disable-autodetect",
    "--disable-everything",
    "--disable-programs",
    "--disable-doc",
    "--disable-debug",
    "--disable-network",
    "--disable-avdevice",
    "--disable-avfilter",
    "--disable-swscale",
    "--disable-postproc",
    "--disable-shared",
    "--enable-static",
    "--enable-pic",
    // Compressed headers in MOV, compressed tracks in Matroska.
    "--enable-zlib",
    // Without it libavformat takes our own I/O for a network stream, and reads through all of the video.
    "--enable-protocol=pipe",
];

const LIBRARIES: [&str; 4] = ["libavformat.a", "libavcodec.a", "libswresample.a", "libavutil.a"];

/// The engine's lists, as `configure` spells them.
#[derive(Hash)]
pub struct Formats {
    demuxers: Vec<String>,
    decoders: Vec<String>,
}

impl Formats {
    pub fn read(root: &Path) -> Result<Formats> {
        let text = read(&root.join(LISTS))?;
        Ok(Formats { demuxers: list(&text, "CONTAINERS")?, decoders: list(&text, "DECODERS")? })
    }
}

/// The strings of a list in the engine's source. Decoders of other libraries (libopus) have one of libav's own beside them.
fn list(text: &str, name: &str) -> Result<Vec<String>> {
    let start = text.find(&format!("const {name}: &[&str] = &["));
    let body = start.and_then(|start| text[start..].split_once("= &[")?.1.split_once("];"));
    let (body, _) = body.with_context(|| format!("{LISTS} has no list {name}"))?;
    let names: Vec<String> = body.split('"').skip(1).step_by(2).map(spelled).collect();
    let own: Vec<String> = names.into_iter().filter(|name| !name.starts_with("lib")).collect();
    if own.is_empty() {
        bail!("the list {name} in {LISTS} is empty");
    }
    Ok(own)
}

fn spelled(name: &str) -> String {
    let other = SPELLINGS.iter().find(|(library, _)| *library == name);
    other.map_or(name, |(_, configure)| configure).to_owned()
}

/// Builds libav into `to/lib` and `to/include`.
pub fn build(formats: &Formats, tarball: &Path, work: &Path, to: &Path) -> Result<()> {
    let source = work.join("ffmpeg");
    make(&source)?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(tarball).arg("-C").arg(&source).arg("--strip-components=1");
    crate::finish(&mut unpack, "is there room on the disk?")?;
    let recognised = RECOGNISED.iter().map(|name| (*name).to_owned());
    let demuxers: Vec<String> = formats.demuxers.iter().cloned().chain(recognised).collect();
    refuse_unknown(&source, "--list-demuxers", &demuxers)?;
    refuse_unknown(&source, "--list-decoders", &formats.decoders)?;

    println!("building libav");
    let mut configure = Command::new("./configure");
    configure.args(OPTIONS).current_dir(&source);
    configure.arg(format!("--prefix={}", to.display())).arg(format!("--enable-parser={PARSERS}"));
    configure.arg(format!("--enable-demuxer={}", demuxers.join(",")));
    configure.arg(format!("--enable-decoder={}", formats.decoders.join(",")));
    quietly(&mut configure, "ffbuild/config.log in the folder of the source says why")?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    make.arg(format!("-j{jobs}")).arg("install").current_dir(&source);
    quietly(&mut make, "see above for the compiler's error")?;
    for library in LIBRARIES {
        if !to.join("lib").join(library).is_file() {
            bail!("FFmpeg's build left no {library}");
        }
    }
    copy(&source.join("COPYING.LGPLv2.1"), &to.join("sources/ffmpeg-COPYING.LGPLv2.1"))?;
    static_zlib(to)
}

/// `configure` passes over names that it does not know.
fn refuse_unknown(source: &Path, option: &str, names: &[String]) -> Result<()> {
    let output = Command::new("./configure").arg(option).current_dir(source).output();
    let output = output.context("FFmpeg's ./configure could not be started")?;
    let known = String::from_utf8_lossy(&output.stdout);
    let known: Vec<&str> = known.split_whitespace().collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => bail!("FFmpeg's ./configure {option} has no `{name}`: mend SPELLINGS or {LISTS}"),
    }
}

/// The system's static zlib, beside libav.
fn static_zlib(to: &Path) -> Result<()> {
    let output =
        Command::new("cc").arg("-print-file-name=libz.a").output().context("cc could not be started")?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !path.contains('/') {
        bail!("there is no static zlib; install zlib1g-dev");
    }
    copy(Path::new(&path), &to.join("lib/libz.a"))
}

/// Runs a noisy command; its output is shown only when it fails.
fn quietly(command: &mut Command, mend: &str) -> Result<()> {
    let output =
        command.output().with_context(|| format!("{} could not be started", crate::line(command)))?;
    if !output.status.success() {
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{} ended with {}; {mend}", crate::line(command), output.status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_lists_are_found_and_spelled_as_configure_does() {
        let formats = Formats::read(&crate::root()).unwrap();
        assert!(
            formats.demuxers.contains(&"mov".to_owned()) && formats.demuxers.contains(&"mpegps".to_owned())
        );
        assert!(
            formats.decoders.contains(&"aac".to_owned())
                && formats.decoders.contains(&"adpcm_g722".to_owned())
        );
        assert!(!formats.decoders.iter().any(|name| name.starts_with("lib")));
    }

    #[test]
    fn a_list_that_is_not_there_is_an_error() {
        assert!(list("const OTHER: &[&str] = &[\"a\"];", "CONTAINERS").is_err());
        assert!(list("const CONTAINERS: &[&str] = &[];", "CONTAINERS").is_err());
        assert_eq!(
            list("const CONTAINERS: &[&str] = &[\"a\", \"mpeg\"];", "CONTAINERS").unwrap(),
            ["a", "mpegps"]
        );
    }
}
