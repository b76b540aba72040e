//! LAME from its own source and our patch: one copy for any processor, on x86-64 a second one for AVX2, chosen when the program is loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{copy, make, read, write};

const FOLDER: &str = "third_party/lame";

/// No `-ffast-math` here: it adds in another order, and LAME compares sums of two loops that are equal only if both add alike. A band that is
/// zeroed has all its energy as noise; one bit more than `calc_xmin` allows, and LAME shapes noise that nobody hears (0.5 dB at CBR 320).
const FLAGS: &[&str] = &[
    "-std=gnu11",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-w",
    "-DNDEBUG",
    "-DHAVE_CONFIG_H",
];

/// A copy of the library: what its functions are called, and what the compiler may use.
pub struct Variant {
    pub suffix: &'static str,
    flags: &'static [&'static str],
}

/// The best one last. Its kernels say themselves in which order such sums are added, so the rest may be in any; and `__FAST_MATH__` would
/// have glibc's headers offer vector functions, and the program ask for one more library (libmvec).
const VARIANTS: &[Variant] = &[
    Variant { suffix: "any", flags: &[] },
    Variant { suffix: "avx2", flags: &["-march=x86-64-v3", "-ffast-math", "-U__FAST_MATH__"] },
];

/// Without our patch: plain C, and arithmetic as the language has it.
const AS_IT_WAS: Variant =
    Variant { suffix: "as-it-was", flags: &["-fmath-errno", "-ftrapping-math", "-U__SSE2__"] };

impl Variant {
    /// What stands behind a function's name in the library.
    pub fn of_function(&self) -> String {
        if DISPATCHED { format!("__{}", self.suffix) } else { String::new() }
    }

    /// Has this processor what the compiler may use?
    pub fn runs_here(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.suffix == "avx2" {
            return is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("movbe");
        }
        true
    }
}

/// Are there several copies, between which the loader chooses?
const DISPATCHED: bool = cfg!(target_arch = "x86_64");

/// The copies that are in the library.
pub fn variants() -> &'static [Variant] {
    if DISPATCHED { VARIANTS } else { &VARIANTS[..1] }
}

/// Not wanted: LAME's MP3 decoder.
const LEFT_OUT: &str = "mpglib_interface.c";

/// What we add to LAME's source.
#[derive(Hash)]
pub struct Recipe {
    patch: String,
    config: String,
    dispatch: String,
}

impl Recipe {
    pub fn read(root: &Path) -> Result<Recipe> {
        let folder = root.join(FOLDER);
        Ok(Recipe {
            patch: read(&folder.join("kernels.patch"))?,
            config: read(&folder.join("config.h"))?,
            dispatch: read(&folder.join("dispatch.c"))?,
        })
    }
}

/// Builds LAME without our patch, in `work`: its header is in `include/lame`, and the object is returned.
pub fn build_as_it_was(recipe: &Recipe, tarball: &Path, work: &Path) -> Result<PathBuf> {
    let source = work.join("lame-as-it-was");
    unpack(recipe, tarball, &source)?;
    make(&work.join("include/lame"))?;
    copy(&source.join("include/lame.h"), &work.join("include/lame/lame.h"))?;
    println!("building LAME as it was");
    joined(&source, &AS_IT_WAS)
}

/// Builds LAME into `to/lib` and `to/include`.
pub fn build(recipe: &Recipe, tarball: &Path, work: &Path, to: &Path) -> Result<()> {
    let source = work.join("lame");
    unpack(recipe, tarball, &source)?;
    patch(recipe, &source)?;
    println!("building LAME");
    let objects = if DISPATCHED { dispatched(&source)? } else { vec![joined(&source, &VARIANTS[0])?] };
    let mut archive = Command::new("ar");
    archive.arg("rcs").arg(to.join("lib/libmp3lame.a")).args(objects);
    crate::finish(&mut archive, "is binutils installed?")?;
    make(&to.join("include/lame"))?;
    copy(&source.join("include/lame.h"), &to.join("include/lame/lame.h"))?;
    copy(&source.join("COPYING"), &to.join("sources/lame-COPYING"))?;
    write(&to.join("sources/lame-kernels.patch"), &recipe.patch)?;
    write(&to.join("sources/lame-config.h"), &recipe.config)?;
    write(&to.join("sources/lame-dispatch.c"), &recipe.dispatch)
}

fn unpack(recipe: &Recipe, tarball: &Path, source: &Path) -> Result<()> {
    make(source)?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(tarball).arg("-C").arg(source).arg("--strip-components=1");
    crate::finish(&mut unpack, "is there room on the disk?")?;
    write(&source.join("config.h"), &recipe.config)
}

fn patch(recipe: &Recipe, source: &Path) -> Result<()> {
    write(&source.join("dispatch.c"), &recipe.dispatch)?;
    write(&source.join("kernels.patch"), &recipe.patch)?;
    let mut patch = Command::new("patch");
    patch.args(["-p0", "--quiet", "--fuzz=0", "-i", "kernels.patch"]).current_dir(source);
    crate::finish(&mut patch, "does third_party/lame/kernels.patch belong to this version of LAME?")
}

/// The objects of both copies, and of what chooses between them.
fn dispatched(source: &Path) -> Result<Vec<PathBuf>> {
    let mut objects = Vec::new();
    let mut functions = Vec::new();
    for variant in VARIANTS {
        let object = joined(source, variant)?;
        functions = public_functions(&object)?;
        let map: String =
            functions.iter().map(|name| format!("{name} {name}__{}\n", variant.suffix)).collect();
        let kept = source.join(format!("{}.kept", variant.suffix));
        let renamed = source.join(format!("{}.renamed", variant.suffix));
        write(&kept, &functions.join("\n"))?;
        write(&renamed, &map)?;
        // In two steps: the names to keep are the old ones.
        for (option, list) in [("--keep-global-symbols", &kept), ("--redefine-syms", &renamed)] {
            let mut objcopy = Command::new("objcopy");
            objcopy.arg(format!("{option}={}", list.display())).arg(&object);
            crate::finish(&mut objcopy, "is binutils installed?")?;
        }
        objects.push(object);
    }
    let list: String = functions.iter().map(|name| format!("FUNCTION({name})\n")).collect();
    write(&source.join("functions.inc"), &list)?;
    let chooser = source.join("dispatch.o");
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-fPIC", "-c", "dispatch.c", "-o", "dispatch.o"]).current_dir(source);
    crate::finish(&mut compile, "see above for the compiler's error")?;
    objects.push(chooser);
    Ok(objects)
}

/// Compiles a copy and joins its objects into one.
fn joined(source: &Path, variant: &Variant) -> Result<PathBuf> {
    let own = source.join(variant.suffix);
    make(&own)?;
    let mut running = Vec::new();
    for folder in ["libmp3lame", "libmp3lame/vector"] {
        let entries =
            fs::read_dir(source.join(folder)).with_context(|| format!("LAME has no folder {folder}"))?;
        for entry in entries {
            let file = entry.context("a folder of LAME could not be read")?.path();
            let name = file.file_name().unwrap_or_default();
            if file.extension().is_none_or(|extension| extension != "c") || name == LEFT_OUT {
                continue;
            }
            let object = own.join(name).with_extension("o");
            let mut compile = Command::new("cc");
            compile.args(FLAGS).args(variant.flags).args(["-I.", "-Iinclude", "-Ilibmp3lame", "-c"]);
            compile.arg(&file).arg("-o").arg(&object).current_dir(source).stdin(Stdio::null());
            running.push((compile.spawn().context("cc could not be started")?, object));
        }
    }
    let mut objects = Vec::new();
    for (mut compiler, object) in running {
        if !compiler.wait().context("a compiler was lost")?.success() {
            bail!("{} could not be compiled; see above for the compiler's error", object.display());
        }
        objects.push(object);
    }
    objects.sort();
    let all = source.join(format!("lame-{}.o", variant.suffix));
    let mut link = Command::new("ld");
    link.arg("-r").arg("-o").arg(&all).args(objects);
    crate::finish(&mut link, "is binutils installed?")?;
    Ok(all)
}

/// What lame.h declares: the functions that an object defines under LAME's prefixes.
fn public_functions(object: &Path) -> Result<Vec<String>> {
    let output =
        Command::new("nm").args(["--defined-only", "--extern-only", "--format=posix"]).arg(object).output();
    let output = output.context("nm could not be started; is binutils installed?")?;
    let functions: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().filter_map(public).collect();
    if !functions.iter().any(|name| name == "lame_encode_buffer_ieee_float") {
        bail!("{} lacks LAME's functions", object.display());
    }
    Ok(functions)
}

/// A line of nm: name, kind, value, size.
fn public(line: &str) -> Option<String> {
    let mut fields = line.split(' ');
    let (name, kind) = (fields.next()?, fields.next()?);
    let prefixes = ["lame_", "id3tag_", "get_lame_"];
    (kind == "T" && prefixes.iter().any(|prefix| name.starts_with(prefix))).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_functions_of_the_public_interface_are_dispatched() {
        assert_eq!(public("lame_init T 0 10").as_deref(), Some("lame_init"));
        assert_eq!(public("fft_long T 0 10"), None);
        assert_eq!(public("lame_table D 0 10"), None);
        assert_eq!(public(""), None);
    }
}
