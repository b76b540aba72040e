//! The engine alone, in this process and without its cage: `cargo run --release -p engine --example convert -- VIDEO MP3 [THREADS]`.

use std::error::Error;
use std::fs::File;
use std::ops::ControlFlow;

use engine::{FileSink, Limits, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [video, mp3, rest @ ..] = &arguments[..] else {
        return Err("convert needs two names: of a video, and of the MP3 to write".into());
    };
    let threads = rest.first().map_or(Ok(0), |threads| threads.parse())?;
    let (source, mut sink) = (File::open(video)?, FileSink::new(File::create(mp3)?));
    let limits = Limits { threads, ..Limits::default() };
    let made =
        engine::convert(
            &source,
            &mut sink,
            &Options::default(),
            &limits,
            &mut |_| ControlFlow::Continue(()),
        )?;
    println!("{:.3} s of sound from {} bytes read", made.duration().as_secs_f64(), made.bytes_read);
    Ok(())
}
