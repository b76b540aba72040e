//! How fast files go into GridFS and come out of it: `gridfs URI MEBIBYTES`, for instance
//! `gridfs mongodb://127.0.0.1:27017 512`. It makes the databases `tapedeck_bench_videos` and `tapedeck_bench_mp3s`, and leaves them
//! empty. It prints one line of JSON, in MiB/s, with the most memory that it held, in MiB.

use bytes::Bytes;
use distributed::{GridFs, Mongo};
use engine::Source;
use futures_util::TryStreamExt;
use services::{
    clock::SystemClock,
    id::Id,
    ports::{Blob, Blobs},
};
use std::{error::Error, time::Instant};

const MIB: usize = 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(uri), Some(size)) = (args.next(), args.next().and_then(|size| size.parse::<u64>().ok())) else {
        return Err("usage: gridfs URI MEBIBYTES".into());
    };
    let files = GridFs::new(&Mongo::connect(&uri).await?, "tapedeck_bench_videos", "tapedeck_bench_mp3s");
    files.ensure_indexes().await?;
    let blob = Blob::video(Id::mint(&SystemClock));
    let measured = measure(&files, blob, size).await;
    files.delete(blob).await?;
    println!("{}", measured?);
    Ok(())
}

async fn measure(files: &GridFs, blob: Blob, size: u64) -> Result<serde_json::Value, Box<dyn Error>> {
    let mut random = vec![0; MIB];
    services::random(&mut random);
    let random = Bytes::from(random);
    let speed = |since: Instant| (size as f64 / since.elapsed().as_secs_f64()).round();

    let began = Instant::now();
    let mut writer = files.create(blob).await?;
    for _ in 0..size {
        // As it comes from a socket.
        for at in (0..MIB).step_by(MIB / 16) {
            writer.write(random.slice(at..at + MIB / 16)).await?;
        }
    }
    writer.commit().await?;
    let upload = speed(began);

    let began = Instant::now();
    let mut stream = files.read(blob, 0..size * MIB as u64).await?;
    while stream.try_next().await?.is_some() {}
    let download = speed(began);

    let began = Instant::now();
    let source = files.source(blob).await?.ok_or("the file is gone")?;
    tokio::task::spawn_blocking(move || read_through(&source)).await??;
    Ok(
        serde_json::json!({ "upload": upload, "download": download, "engine_reads": speed(began), "memory": peak()? }),
    )
}

fn read_through(source: &dyn Source) -> std::io::Result<()> {
    let (mut buffer, mut at) = (vec![0; 64 * 1024], 0);
    loop {
        match source.read_at(at, &mut buffer)? {
            0 => return Ok(()),
            length => at += length as u64,
        }
    }
}

fn peak() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}
