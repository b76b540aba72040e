//! What is no video, whatever it is called: text, playlists, scripts, pictures, archives, programs, noise.

use tempfile::TempDir;

use super::super::{make, media};
use super::{Random, assert_verdicts};

const REFUSED: &str = "not-media";

#[test]
fn playlists_and_manifests_open_nothing() {
    let secret = media().join("wav__sample.wav");
    let secret = secret.to_str().unwrap();
    let texts = [
        ("m3u", format!("#EXTM3U\n#EXTINF:1,x\n{secret}\n")),
        ("m3u8", format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\nfile://{secret}\n#EXT-X-ENDLIST\n")),
        ("m3u8 of streams", format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000,CODECS=\"mp4a.40.2\"\n{secret}\n")),
        ("m3u8 with a key", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI=\"file:///etc/passwd\"\n#EXTINF:1,\nconcat:/etc/passwd\n#EXT-X-ENDLIST\n".to_owned()),
        ("dash", format!("<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\"><Period><AdaptationSet mimeType=\"audio/wav\"><Representation id=\"1\" bandwidth=\"1\"><BaseURL>file://{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>")),
        ("smooth", "<SmoothStreamingMedia MajorVersion=\"2\" Duration=\"10\"><StreamIndex Type=\"audio\" Url=\"http://127.0.0.1/x\"/></SmoothStreamingMedia>".to_owned()),
        ("concat", format!("ffconcat version 1.0\nfile {secret}\nduration 1\n")),
        ("concat without a version", format!("file '{secret}'\nfile '{secret}'\n")),
        ("sdp", "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n".to_owned()),
        ("imf", "<?xml version=\"1.0\"?><CompositionPlaylist xmlns=\"http://www.smpte-ra.org/schemas/2067-3/2016\"></CompositionPlaylist>".to_owned()),
        ("pls", format!("[playlist]\nNumberOfEntries=1\nFile1={secret}\n")),
        ("asx", format!("<asx version=\"3.0\"><entry><ref href=\"{secret}\"/></entry></asx>")),
        ("asf reference", format!("[Reference]\r\nRef1=http://127.0.0.1/{secret}?MSWMExt=.asf\r\n")),
        ("ram", "rtsp://127.0.0.1/x.rm\n".to_owned()),
        ("rtsp text", "RTSPtextrtsp://127.0.0.1/x.mov\n".to_owned()),
        ("quicktime link", "SMILtext<smil><body><audio src=\"file:///etc/passwd\"/></body></smil>".to_owned()),
        ("xspf", format!("<playlist version=\"1\" xmlns=\"http://xspf.org/ns/0/\"><trackList><track><location>file://{secret}</location></track></trackList></playlist>")),
        ("cue", format!("FILE \"{secret}\" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n")),
        ("txd list", "ffmetadata1\ntitle=x\n".to_owned()),
        (";FFMETADATA", ";FFMETADATA1\ntitle=x\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\n".to_owned()),
    ];
    assert_verdicts(&texts.map(|(name, text)| (name, text.into_bytes(), REFUSED)));
}

#[test]
fn scripts_and_documents_are_no_videos() {
    let texts = [
        ("shell", "#!/bin/sh\ncat /etc/passwd\n"),
        ("python", "#!/usr/bin/env python3\nimport os\nos.system('id')\n"),
        ("avisynth", "WavSource(\"/etc/passwd\")\nTrim(0, 100)\n"),
        (
            "vapoursynth",
            "import vapoursynth as vs\ncore = vs.core\nclip = core.std.BlankClip()\nclip.set_output()\n",
        ),
        (
            "html",
            "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n",
        ),
        (
            "svg",
            "<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"file:///etc/passwd\"/></svg>",
        ),
        ("json", "{\"error\": \"not found\", \"status\": 404}"),
        ("srt", "1\n00:00:00,000 --> 00:00:02,000\nHello\n\n2\n00:00:02,000 --> 00:00:04,000\nWorld\n"),
        (
            "ass",
            "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Text\nDialogue: 0,0:00:00.00,0:00:02.00,Default,Hi\n",
        ),
        ("webvtt", "WEBVTT\n\n00:00.000 --> 00:02.000\nHello\n"),
        ("lyrics", "[ti:x]\n[00:12.00]Line\n[00:17.20]Line\n"),
        ("microdvd", "{0}{25}Hello\n{25}{50}World\n"),
        ("idx", "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\n"),
        ("csv", "time,value\n0,1\n1,2\n"),
        ("rtf", "{\\rtf1\\ansi Hello}\n"),
        ("mail", "From: a@example.org\r\nTo: b@example.org\r\nSubject: x\r\n\r\nHello\r\n"),
        ("one letter", "x"),
        ("one line end", "\n"),
    ];
    let mut cases: Vec<_> =
        texts.iter().map(|(name, text)| (*name, text.as_bytes().to_vec(), REFUSED)).collect();
    let pdf = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";
    cases.push(("pdf", pdf.repeat(50).into_bytes(), REFUSED));
    cases.push((
        "utf-16",
        "Hello, world\n".repeat(100).encode_utf16().flat_map(u16::to_le_bytes).collect(),
        REFUSED,
    ));
    assert_verdicts(&cases);
}

#[test]
fn pictures_and_films_without_a_container_are_no_videos() {
    let folder = TempDir::new().unwrap();
    let one = "-f lavfi -i testsrc=s=96x64:r=1:d=1 -frames:v 1";
    let some = "-f lavfi -i testsrc=s=96x64:r=10:d=1";
    let made = [
        ("it.png", one, ""),
        ("it.jpg", one, ""),
        ("it.webp", one, ""),
        ("it.bmp", one, ""),
        ("it.tiff", one, ""),
        ("it.tga", one, ""),
        ("it.ppm", one, ""),
        ("it.jp2", one, ""),
        ("it.jxl", one, " -c:v libjxl"),
        ("it.gif", some, ""),
        ("it.apng", some, ""),
        ("it.avif", one, " -c:v libaom-av1 -cpu-used 8"),
        ("it.y4m", some, " -pix_fmt yuv420p"),
        ("it.h264", some, " -c:v libx264"),
        ("it.m1v", some, " -r 25 -c:v mpeg1video"),
        ("it.mjpeg", some, ""),
        ("it.ivf", some, " -c:v libvpx"),
    ];
    let mut cases: Vec<_> = made
        .iter()
        .map(|(name, input, output)| {
            let path = make(&folder, name, &format!("{input}{output}"));
            (*name, std::fs::read(path).unwrap(), REFUSED)
        })
        .collect();
    let heic = [
        &b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..],
        b"\0\0\0\x2ameta\0\0\0\0\0\0\0\x1ahdlr\0\0\0\0\0\0\0\0pict\0\0\0\0\0\0",
        &[0, 0, 4, 8],
        b"mdat",
        &[0x5a; 1024],
    ]
    .concat();
    cases.push(("it.heic", heic, REFUSED));
    assert_verdicts(&cases);
}

#[test]
fn archives_programs_and_noise_are_no_videos() {
    let mut random = Random(4);
    let mut with = |head: &[u8]| [head, &random.bytes(20_000)].concat();
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut cases = vec![
        ("zip", with(b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0"), REFUSED),
        ("gzip", with(b"\x1f\x8b\x08\0\0\0\0\0\0\x03"), REFUSED),
        ("7z", with(b"7z\xbc\xaf\x27\x1c\0\x04"), REFUSED),
        ("xz", with(b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46"), REFUSED),
        ("bzip2", with(b"BZh91AY&SY"), REFUSED),
        ("zstd", with(b"\x28\xb5\x2f\xfd"), REFUSED),
        ("rar", with(b"Rar!\x1a\x07\x01\0"), REFUSED),
        ("cab", with(b"MSCF\0\0\0\0"), REFUSED),
        ("sqlite", with(b"SQLite format 3\0"), REFUSED),
        ("class", with(b"\xca\xfe\xba\xbe\0\0\0\x34"), REFUSED),
        ("exe", with(b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff"), REFUSED),
        ("midi", with(b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk"), REFUSED),
        // Some of the programs that this one may be have bytes amid them that look like a frame of MP3.
        ("elf", program[..program.len().min(2 << 20)].to_vec(), "not-media|corrupt"),
        ("tar of text", tar("x.txt", &b"Hello\n".repeat(1000)), REFUSED),
        ("zeros", vec![0; 1 << 20], REFUSED),
        ("ones", vec![0xff; 1 << 20], REFUSED),
        ("spaces", vec![b' '; 1 << 20], REFUSED),
    ];
    for (i, name) in ["noise 1", "noise 2", "noise 3", "noise 4"].into_iter().enumerate() {
        // A few bytes may look like the frames of some codec.
        cases.push((name, Random(i as u64).bytes(1 << (8 + 4 * i)), "not-media|corrupt"));
    }
    for byte in [0, 1, 0x1a, 0x47, 0xff] {
        cases.push(("one byte", vec![byte], REFUSED));
    }
    assert_verdicts(&cases);
}

/// One file in an archive that compresses nothing (POSIX ustar).
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..108].copy_from_slice(b"0000644\0");
    head[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    head[257..265].copy_from_slice(b"ustar\x0000");
    head[148..156].copy_from_slice(b"        ");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [&head[..], content, &vec![0; 1024 + (512 - content.len() % 512) % 512]].concat()
}
