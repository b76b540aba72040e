//! `tapedeck convert`: files here and now, without a server. An MP3 appears whole, or not at all.

mod places;
mod target;
mod wishes;

pub use wishes::Wishes;

use crate::cli::Convert;
use crate::say::name;
use engine::{Cancel, Code, Engine, FileSink, Input, Limits, Options, Sandbox, Summary};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use places::{Places, places};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError},
};
use target::Target;

/// Why a file was not converted; the number is the exit code.
enum Failure {
    Unconvertible(engine::Error),
    NoPeaks,
    Usage(String),
    Exists(String),
    Io(String),
    Interrupted,
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Unconvertible(_) | Failure::NoPeaks => 1,
            Failure::Usage(_) => 2,
            Failure::Exists(_) => 3,
            Failure::Io(_) => 4,
            Failure::Interrupted => 130,
        }
    }

    fn text(&self) -> String {
        match self {
            Failure::Unconvertible(error) => format!("{} ({})", error.text, error.code.as_str()),
            Failure::NoPeaks => {
                "its sound is copied, not decoded, so there are no peaks; leave --peaks out, or choose a quality such as --vbr 2".into()
            }
            Failure::Usage(text) | Failure::Exists(text) | Failure::Io(text) => text.clone(),
            Failure::Interrupted => "interrupted; nothing was written".into(),
        }
    }
}

/// Converts all files; tells each failure, and ends with the first one's code.
pub fn run(wish: &Convert) -> ExitCode {
    let cancel = Cancel::default();
    cancel_on_ctrl_c(cancel.clone());
    let engine = match Engine::this_program() {
        Ok(engine) => engine.with_sandbox(wish.sandbox),
        Err(error) => {
            complain!("tapedeck: this program's own path is not known: {error}");
            return ExitCode::from(4);
        }
    };
    let planned = wish.wishes.options().map_err(|error| Failure::Usage(error.text));
    let (options, places) = match planned.and_then(|options| Ok((options, places(wish)?))) {
        Ok(planned) => planned,
        Err(failure) => {
            complain!("tapedeck: {}", failure.text());
            return ExitCode::from(failure.code());
        }
    };
    if wish.sandbox == Sandbox::BestEffort && !wish.quiet {
        tell_lacking(&engine);
    }
    let shown = if wish.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bars = MultiProgress::with_draw_target(shown);
    let batch = Batch { wish, options, places, engine, cancel, bars };
    ExitCode::from(batch.run())
}

/// What goes wrong here goes wrong in the first conversion, and is told then.
fn tell_lacking(engine: &Engine) {
    for lack in engine.lacking().unwrap_or_default() {
        complain!("tapedeck: converting without a layer of the sandbox: {lack}");
    }
}

/// All files of a command.
struct Batch<'a> {
    wish: &'a Convert,
    options: Options,
    /// Where goes what is made of each file.
    places: Vec<Places>,
    engine: Engine,
    cancel: Cancel,
    bars: MultiProgress,
}

/// How far a batch is.
#[derive(Default)]
struct Course {
    /// Files that were begun, and those of them that are under way.
    begun: usize,
    under_way: usize,
    /// Codes of those that failed.
    failed: BTreeMap<usize, u8>,
}

impl Batch<'_> {
    /// Converts all files in their order, some at once; returns the code of the first that failed.
    fn run(&self) -> u8 {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let jobs = if self.wish.jobs == 0 { processors } else { self.wish.jobs };
        let jobs = jobs.min(self.wish.files.len());
        let course = Mutex::new(Course::default());
        let course = || course.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            loop {
                let (place, at_once) = {
                    let mut course = course();
                    let place = course.begun;
                    if place == self.wish.files.len() || self.cancel.is_cancelled() {
                        return;
                    }
                    (course.begun, course.under_way) = (place + 1, course.under_way + 1);
                    (place, jobs.min(course.under_way + self.wish.files.len() - course.begun))
                };
                let failure = self.convert(place, (processors / at_once).max(1)).err();
                let mut course = course();
                course.under_way -= 1;
                if let Some(failure) = failure {
                    let file = name(&self.wish.files[place]);
                    self.bars.suspend(|| complain!("tapedeck: {file}: {}", failure.text()));
                    course.failed.insert(place, failure.code());
                }
            }
        };
        std::thread::scope(|scope| {
            (1..jobs).for_each(|_| {
                scope.spawn(work);
            });
            work();
        });
        if self.cancel.is_cancelled() {
            return Failure::Interrupted.code();
        }
        let Course { failed, .. } = std::mem::take(&mut *course());
        failed.into_values().next().unwrap_or(0)
    }

    /// Converts a file, encoding on so many threads unless the command says how many.
    fn convert(&self, place: usize, threads: usize) -> Result<(), Failure> {
        let Batch { wish, options, engine, cancel, .. } = self;
        let (file, places) = (&wish.files[place], &self.places[place]);
        let (output, peaks) = (&behind_links(&places.mp3), places.peaks.as_deref().map(behind_links));
        let input = File::open(file).map_err(|error| Failure::Io(format!("cannot be read: {error}")))?;
        if input.metadata().is_ok_and(|facts| facts.is_dir()) {
            return Err(Failure::Io("is a folder; name the files in it".into()));
        }
        let target = begin(wish, file, output)?;
        let peaks_target = peaks.as_deref().map(|peaks| begin(wish, file, peaks)).transpose()?;
        let mut sink = FileSink::new(target.file().map_err(|error| cannot_write(output, &error))?);
        let title = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let options = Options { title, ..options.clone() };
        let threads = if wish.threads == 0 { threads } else { wish.threads };
        let limits = Limits { threads, ..Limits::default() };
        let bar = self.bars.add(bar(file));
        let mut watch = |now: engine::Progress| bar.set_position(per_mille(now.fraction));
        let done = engine.convert(Input::File(input), &mut sink, &options, &limits, cancel, &mut watch);
        bar.finish_and_clear();
        let summary = done.map_err(|error| match error.code {
            Code::Cancelled => Failure::Interrupted,
            Code::ReadFailed | Code::WriteFailed => Failure::Io(with_cause(&error)),
            _ => Failure::Unconvertible(error),
        })?;
        // The peaks first: where they cannot be had, there is no MP3 either.
        if let (Some(target), Some(place)) = (peaks_target, &peaks) {
            let peaks = summary.peaks.as_ref().ok_or(Failure::NoPeaks)?;
            let written = target.file().and_then(|mut file| file.write_all(peaks.to_json().as_bytes()));
            written.map_err(|error| cannot_write(place, &error))?;
            publish(wish, target, place)?;
        }
        publish(wish, target, output)?;
        if !wish.quiet {
            self.bars.suspend(|| say!("{}", told(file, output, &summary)));
        }
        Ok(())
    }
}

/// The engine process has its own process group: Ctrl-C reaches this one alone, and this one ends it.
fn cancel_on_ctrl_c(cancel: Cancel) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            if let Ok(mut signals) = crate::life::Signals::listen() {
                signals.next().await;
                cancel.cancel();
                signals.next().await;
                std::process::exit(130);
            }
        });
    });
}

/// The file itself, where a link leads to one: it is replaced, and not the link.
fn behind_links(output: &Path) -> PathBuf {
    match output.symlink_metadata() {
        Ok(facts) if facts.is_symlink() => output.canonicalize().unwrap_or_else(|_| output.to_owned()),
        _ => output.to_owned(),
    }
}

/// A file in the making, where one may be made.
fn begin(wish: &Convert, file: &Path, output: &Path) -> Result<Target, Failure> {
    check_output(wish, file, output)?;
    Target::beside(output).map_err(|error| cannot_write(output, &error))
}

fn publish(wish: &Convert, target: Target, output: &Path) -> Result<(), Failure> {
    target.publish(output, wish.force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(output),
        _ => cannot_write(output, &error),
    })
}

/// Said before the work, not after it. `output` is the MP3, or its peaks.
fn check_output(wish: &Convert, file: &Path, output: &Path) -> Result<(), Failure> {
    let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    if same(file, output) {
        return Err(Failure::Usage(format!("{} is the source itself; name another file", output.display())));
    }
    if output.is_dir() {
        return Err(Failure::Usage(format!("{} is a folder; name a file in it", output.display())));
    }
    if output.metadata().is_ok_and(|facts| !facts.is_file()) {
        let text = "is a device or a pipe, and an MP3 is made as a file; name one";
        return Err(Failure::Usage(format!("{} {text}", output.display())));
    }
    if output.symlink_metadata().is_ok() && !wish.force { Err(exists(output)) } else { Ok(()) }
}

fn exists(output: &Path) -> Failure {
    Failure::Exists(format!("{} exists already; --force overwrites it; or name another", output.display()))
}

fn cannot_write(output: &Path, error: &io::Error) -> Failure {
    Failure::Io(format!("{} cannot be written: {error}", output.display()))
}

fn with_cause(error: &engine::Error) -> String {
    match &error.source {
        Some(source) => format!("{} ({source})", error.text),
        None => error.text.clone(),
    }
}

fn bar(file: &Path) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} %  {eta} left")
        .expect("the template is sound");
    let name = shortened(&name(Path::new(file.file_name().unwrap_or_default())));
    let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::hidden());
    bar.with_style(style).with_message(name)
}

/// A name that leaves room for the bar: its beginning and its end.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 32;
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= LONGEST {
        return name.to_owned();
    }
    let (begin, end) = (&chars[..LONGEST / 2], &chars[chars.len() - (LONGEST / 2 - 1)..]);
    begin.iter().chain(&['…']).chain(end).collect()
}

fn per_mille(fraction: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction is within 0 and 1"
    )]
    let per_mille = (fraction.clamp(0.0, 1.0) * 1000.0) as u64;
    per_mille
}

fn told(file: &Path, output: &Path, summary: &Summary) -> String {
    let seconds = summary.duration().as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let duration = if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    };
    let copied = if summary.copied { ", copied: it is MP3 already" } else { "" };
    format!("{} -> {} ({duration}, {}{copied})", name(file), name(output), HumanBytes(summary.bytes))
}
