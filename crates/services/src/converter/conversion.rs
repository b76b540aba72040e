//! One attempt at one job: intent, engine, commit, verification, and only then the record.

use super::Converter;
use crate::{
    failpoints,
    id::Id,
    job::{Event, Failure, Job, Mp3, Verdict},
    measures,
    ports::{Blob, BlobWriter, PortError},
    stored::{self, Maker, Stored, Unsound},
    transition::TransitionError,
};
use bytes::Bytes;
use engine::{Cancel, Input, Kind, Limits, Options, Sink, Summary};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

/// How an attempt ended without an MP3.
enum Ended {
    /// The record is somebody else's now, or its owner stopped it: nothing is to be said.
    Lost,
    /// The process is to stop: somebody else shall do it.
    HandBack,
    /// It failed.
    Failed(Failure, Verdict),
}

impl From<PortError> for Ended {
    fn from(error: PortError) -> Ended {
        tracing::warn!(error = %crate::chain(&error), "the store failed during a conversion");
        let text =
            "The video or its MP3 could not be read or stored just now. Tapedeck tries again by itself.";
        Ended::Failed(Failure { code: "store-unavailable".into(), text: text.into() }, Verdict::Transient)
    }
}

impl From<TransitionError> for Ended {
    fn from(error: TransitionError) -> Ended {
        match error {
            TransitionError::Store(error) => error.into(),
            TransitionError::Missing | TransitionError::Refused(_) => Ended::Lost,
        }
    }
}

/// Runs one attempt from claim to end.
pub(super) async fn run(converter: &Converter, job: Job, threads: usize, stop: CancellationToken) {
    let mp3_fid = Id::mint(&*converter.ledger.clock);
    let event = match convert(converter, &job, mp3_fid, threads, &stop).await {
        Ok(mp3) => Event::Converted { fence: job.fence, mp3_fid, mp3 },
        Err(Ended::Failed(failure, verdict)) => Event::Fail { fence: job.fence, failure, verdict },
        Err(Ended::HandBack) => Event::HandBack { fence: job.fence },
        Err(Ended::Lost) => return remove_own(converter, &job, mp3_fid).await,
    };
    let converted = matches!(event, Event::Converted { .. });
    match converter.ledger.insist(job.id, event).await {
        Ok(_) if converted => failpoints::reach("conversion.converted"),
        Ok(_) | Err(TransitionError::Missing | TransitionError::Refused(_)) => {
            remove_own(converter, &job, mp3_fid).await
        }
        // In doubt: the lease runs out, and the sweeper decides by the record.
        Err(TransitionError::Store(error)) => {
            tracing::error!(
                error = %crate::chain(&error),
                "the end of a conversion could not be recorded"
            );
        }
    }
}

/// Deletes the MP3 of an attempt that did not win. The record lists it among its intents, and the sweeper would delete it; here it is only
/// sooner. The record is asked first: a write whose answer was lost may have made this MP3 the job's.
async fn remove_own(converter: &Converter, job: &Job, mp3_fid: Id) {
    let removed = async {
        match converter.ledger.jobs.get(job.id).await? {
            Some(job) if job.mp3_fid == Some(mp3_fid) => Ok(()),
            _ => converter.blobs.delete(Blob::mp3(mp3_fid)).await,
        }
    };
    if let Err(error) = removed.await {
        tracing::warn!(error = %crate::chain(&error), "left for the sweeper");
    }
}

async fn convert(
    converter: &Converter,
    job: &Job,
    mp3_fid: Id,
    threads: usize,
    stop: &CancellationToken,
) -> Result<Mp3, Ended> {
    let input = converter.blobs.engine_input(Blob::video(job.id)).await?.ok_or_else(video_missing)?;
    converter.ledger.apply(job.id, Event::Intend { fence: job.fence, mp3_fid }).await?;
    failpoints::reach("conversion.intended");
    let mut writer = converter.blobs.create(Blob::mp3(mp3_fid)).await?;
    let cancel = Cancel::default();
    let progress = Arc::new(Mutex::new(0.0));
    let (sender, pieces) = mpsc::channel(16);
    let limits = Limits { threads, ..converter.settings.limits.clone() };
    let sink = ChannelSink(sender);
    let engine = start_engine(converter, job, input, sink, limits, cancel.clone(), Arc::clone(&progress));
    let heartbeat = heartbeat(converter, job, &progress);
    let work = async {
        let stored = store(pieces, &mut *writer).await;
        let made = engine.await.unwrap_or_else(|panic| Err(engine_panicked(&panic)));
        // Where the store failed, that the engine could not write is only the consequence.
        stored?;
        let summary = made.map_err(|error| failed_engine(&error))?;
        if let Some(peaks) = &summary.peaks {
            writer.set_peaks(peaks.to_json().into()).await?;
        }
        failpoints::reach("conversion.written");
        writer.commit().await?;
        failpoints::reach("conversion.committed");
        verify(converter, mp3_fid, &summary).await
    };
    tokio::pin!(work, heartbeat);
    let interrupted = tokio::select! {
        done = &mut work => return done,
        ended = &mut heartbeat => ended,
        () = stop.cancelled() => Ended::HandBack,
    };
    cancel.cancel();
    // The engine process is gone, and reaped, before the attempt counts as ended. What is handed back is ours until then.
    match interrupted {
        Ended::HandBack => tokio::select! {
            done = &mut work => done.map_err(|_| Ended::HandBack),
            ended = &mut heartbeat => Err(ended),
        },
        lost => {
            let _ = work.await;
            Err(lost)
        }
    }
}

/// Shows a sign of life until the record is no longer ours.
async fn heartbeat(converter: &Converter, job: &Job, progress: &Mutex<f64>) -> Ended {
    loop {
        tokio::time::sleep(converter.settings.beat).await;
        let progress = *progress.lock().unwrap_or_else(PoisonError::into_inner);
        match converter.ledger.apply(job.id, Event::Beat { fence: job.fence, progress }).await {
            Ok(_) => failpoints::reach("conversion.beaten"),
            // A store that is away for a moment costs no conversion; away for long, it costs the lease.
            Err(TransitionError::Store(error)) => {
                tracing::warn!(
                    error = %crate::chain(&error),
                    "a sign of life could not be recorded"
                );
            }
            Err(TransitionError::Missing | TransitionError::Refused(_)) => return Ended::Lost,
        }
    }
}

fn start_engine(
    converter: &Converter,
    job: &Job,
    input: Input,
    mut sink: ChannelSink,
    limits: Limits,
    cancel: Cancel,
    progress: Arc<Mutex<f64>>,
) -> tokio::task::JoinHandle<Result<Summary, engine::Error>> {
    let engine = Arc::clone(&converter.engine);
    let title = job.file_name.rsplit_once('.').map_or(job.file_name.as_str(), |(stem, _)| stem);
    let title = Some(title.to_owned()).filter(|title| !title.is_empty());
    let options = Options { title: job.options.title.clone().or(title), ..job.options.clone() };
    spawn_blocking(move || {
        let mut watch =
            |now: engine::Progress| *progress.lock().unwrap_or_else(PoisonError::into_inner) = now.fraction;
        engine.convert(input, &mut sink, &options, &limits, &cancel, &mut watch)
    })
}

/// A piece of the MP3 on its way from the engine's thread.
enum Piece {
    Next(Bytes),
    Head(u64, Bytes),
}

/// Where the engine's thread writes: a short queue to the task that stores.
struct ChannelSink(mpsc::Sender<Piece>);

impl ChannelSink {
    fn send(&self, piece: Piece) -> io::Result<()> {
        self.0
            .blocking_send(piece)
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the MP3's store has closed"))
    }
}

impl Sink for ChannelSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(Piece::Next(Bytes::copy_from_slice(bytes)))
    }

    fn rewrite_head(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.send(Piece::Head(offset, Bytes::copy_from_slice(bytes)))
    }
}

async fn store(mut pieces: mpsc::Receiver<Piece>, writer: &mut dyn BlobWriter) -> Result<(), PortError> {
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Next(bytes) => writer.write(bytes).await?,
            Piece::Head(offset, bytes) => writer.rewrite_head(offset, bytes).await?,
        }
        failpoints::reach("conversion.first_bytes_written");
    }
    Ok(())
}

/// Reads the MP3 back as it is stored: every frame to the last, as long as the engine said. Only then may the video go.
async fn verify(converter: &Converter, mp3_fid: Id, summary: &Summary) -> Result<Mp3, Ended> {
    let began = Instant::now();
    let Stored { mp3, samples } = stored::look_at(&*converter.blobs, mp3_fid, Maker::Ours).await?;
    if samples != summary.samples || mp3.size != summary.bytes {
        let said = format!(
            "{samples} samples in {} bytes stored, {} in {} made",
            mp3.size, summary.samples, summary.bytes
        );
        return Err(unsound(said));
    }
    failpoints::reach("conversion.verified");
    measures::stage("verify", began.elapsed().as_secs_f64());
    Ok(Mp3 { duration: summary.duration().as_secs_f64(), ..mp3 })
}

impl From<Unsound> for Ended {
    fn from(unsound_mp3: Unsound) -> Ended {
        match unsound_mp3 {
            Unsound::Store(error) => error.into(),
            Unsound::Missing | Unsound::Defect(_) => unsound(unsound_mp3.to_string()),
        }
    }
}

fn unsound(why: String) -> Ended {
    tracing::error!(why, "a stored MP3 did not pass its verification");
    let text = "The finished MP3 did not pass its check. Tapedeck converts the video again by itself.";
    Ended::Failed(Failure { code: "mp3-unsound".into(), text: text.into() }, Verdict::Transient)
}

fn video_missing() -> Ended {
    let text = "The uploaded video is no longer stored. Upload it again.";
    Ended::Failed(Failure { code: "video-missing".into(), text: text.into() }, Verdict::Permanent)
}

fn engine_panicked(panic: &tokio::task::JoinError) -> engine::Error {
    let text = format!("The conversion ended unexpectedly ({panic}).");
    engine::Error { code: engine::Code::EngineCrashed, text, source: None }
}

fn failed_engine(error: &engine::Error) -> Ended {
    let verdict = match error.kind() {
        Kind::Permanent => Verdict::Permanent,
        Kind::Transient => Verdict::Transient,
        Kind::Suspect => Verdict::Suspect,
        Kind::Cancelled => return Ended::Lost,
    };
    tracing::warn!(
        code = error.code.as_str(),
        error = %crate::chain(error),
        "a conversion failed"
    );
    Ended::Failed(Failure { code: error.code.as_str().to_owned(), text: error.text.clone() }, verdict)
}
