//! Finds libav and LAME on this system, or in the folder ENGINE_LIBRARIES; compiles the C side of the decoder, and says in one sentence what is missing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

/// The oldest libraries that work: FFmpeg 5.1.
const LIBAV: [(&str, &str); 4] =
    [("libavformat", "59.27"), ("libavcodec", "59.37"), ("libswresample", "4.7"), ("libavutil", "57.28")];

fn main() {
    for watched in ["src/decode/libav.c", "src/decode/libav_errors.c", "src/decode/libav.h", "build.rs"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    println!("cargo::rerun-if-env-changed=ENGINE_LIBRARIES");
    let include = match env::var_os("ENGINE_LIBRARIES").filter(|folder| !folder.is_empty()) {
        Some(folder) => given(Path::new(&folder)),
        None => of_the_system(),
    };
    cc::Build::new()
        .files(["src/decode/libav.c", "src/decode/libav_errors.c"])
        .includes(include)
        .std("c11")
        .warnings(true)
        .extra_warnings(true)
        .compile("engine_libav");
}

/// What `cargo xtask dist` built: static libraries that go into the program.
fn given(folder: &Path) -> Vec<PathBuf> {
    let (include, lib) = (folder.join("include"), folder.join("lib"));
    // In the order in which they ask for each other.
    for library in ["avformat", "avcodec", "swresample", "avutil", "mp3lame", "z"] {
        let file = lib.join(format!("lib{library}.a"));
        println!("cargo::rerun-if-changed={}", file.display());
        if !file.is_file() {
            println!(
                "cargo::error=ENGINE_LIBRARIES={} has no lib/lib{library}.a; `cargo xtask dist` builds such a folder, and \
                 without the variable the system's libraries are used",
                folder.display()
            );
            exit(0);
        }
        println!("cargo::rustc-link-lib=static={library}");
    }
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=m");
    vec![include]
}

/// libav by pkg-config, LAME where the compiler looks.
fn of_the_system() -> Vec<PathBuf> {
    let mut include = Vec::new();
    for (library, version) in LIBAV {
        match pkg_config::Config::new().atleast_version(version).probe(library) {
            Ok(found) => include.extend(found.include_paths),
            Err(pkg_config::Error::Command { .. }) => missing("pkg-config", "is not installed"),
            Err(_) => missing(
                library,
                &format!("{version} or newer (FFmpeg 5.1) is not installed with its headers"),
            ),
        }
    }
    lame();
    include
}

/// LAME has no .pc file on many systems: look for its header and its library where the compiler does.
fn lame() {
    println!("cargo::rerun-if-env-changed=LAME_INCLUDE_DIR");
    println!("cargo::rerun-if-env-changed=LAME_LIB_DIR");
    let include = env::var_os("LAME_INCLUDE_DIR").map(PathBuf::from);
    if !compiles(
        "#include <stdio.h>\n#include <lame/lame.h>\nint main(void) { return !lame_init; }\n",
        include.as_deref(),
    ) {
        missing("libmp3lame", "is not installed with its header lame/lame.h");
    }
    if let Some(folder) = env::var_os("LAME_LIB_DIR") {
        println!("cargo::rustc-link-search=native={}", Path::new(&folder).display());
    }
    println!("cargo::rustc-link-lib=mp3lame");
}

/// True where the C compiler takes `program`.
fn compiles(program: &str, include: Option<&Path>) -> bool {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let file = out.join("probe.c");
    if std::fs::write(&file, program).is_err() {
        return false;
    }
    let mut build = cc::Build::new();
    build.file(&file).cargo_metadata(false).cargo_warnings(false).warnings(false);
    if let Some(folder) = include {
        build.include(folder);
    }
    build.try_compile("probe").is_ok()
}

/// Ends the build with one sentence: `cargo::error` fails it, and an exit code of 0 keeps cargo from printing all the rest.
fn missing(what: &str, how: &str) -> ! {
    println!(
        "cargo::error={what} {how}; run `cargo xtask setup`, or on Debian and Ubuntu `sudo apt-get install pkg-config \
         libavformat-dev libavcodec-dev libswresample-dev libavutil-dev libmp3lame-dev`, and build again"
    );
    exit(0);
}
