//! Videos and MP3s as files: written beside their place, synced, renamed into it, and the folder synced.
//!
//! `<bucket>/<id>.part` is a file in the making, `<bucket>/<id>` a committed one. Readers see only the latter. An MP3's peaks are
//! `<id>.peaks`, and in the making `<id>.peaks-part`: begun and deleted with the MP3's own draft, so that neither comes without the other.

use crate::{blocking, folder::DataFolder, io_failed};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use services::{
    failpoints,
    id::Id,
    ports::{Blob, BlobWriter, Blobs, Bucket, HEAD, PortError, PortErrorKind, PortResult},
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How much is read or written at once.
const PIECE: usize = 256 * 1024;

/// The files of a data folder.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    folder: DataFolder,
}

impl FileBlobs {
    /// The files in `folder`.
    pub fn new(folder: DataFolder) -> FileBlobs {
        FileBlobs { folder }
    }

    fn path(&self, blob: Blob) -> PathBuf {
        self.folder.bucket(blob.bucket).join(blob.id.to_string())
    }
}

/// Where a file in the making stands.
fn part(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// Where the peaks of an MP3 stand, and where they are made.
fn peaks(path: &Path) -> (PathBuf, PathBuf) {
    (path.with_extension("peaks"), path.with_extension("peaks-part"))
}

/// Makes renames and deletions in `folder` durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// `None` for what is not there.
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn create(&self, blob: Blob) -> PortResult<Box<dyn BlobWriter>> {
        let path = self.path(blob);
        let begun = path.clone();
        let (file, peaks) = blocking("begin a file", move || {
            let peaks = (blob.bucket == Bucket::Mp3s).then(|| File::create(peaks(&begun).1)).transpose()?;
            Ok((File::create(part(&begun))?, peaks))
        })
        .await?;
        Ok(Box::new(FileWriter {
            blob,
            path,
            file: Arc::new(file),
            peaks: peaks.map(Arc::new),
            has_peaks: false,
            written: 0,
            buffer: Vec::with_capacity(PIECE),
        }))
    }

    async fn size(&self, blob: Blob) -> PortResult<Option<u64>> {
        let path = self.path(blob);
        blocking("look for a file", move || Ok(if_there(fs::metadata(path))?.map(|facts| facts.len()))).await
    }

    async fn is_ours(&self, blob: Blob) -> PortResult<bool> {
        // Nobody else writes into this folder.
        Ok(self.size(blob).await?.is_some())
    }

    async fn read(&self, blob: Blob, range: Range<u64>) -> PortResult<BoxStream<'static, PortResult<Bytes>>> {
        let path = self.path(blob);
        let file = Arc::new(blocking("open a file", move || File::open(path)).await?);
        let pieces = stream::try_unfold(range, move |rest| {
            let file = Arc::clone(&file);
            async move {
                if rest.is_empty() {
                    return Ok(None);
                }
                let bytes = blocking("read a file", move || {
                    read_piece(&file, rest.clone()).map(|bytes| (bytes, rest))
                })
                .await;
                bytes.map(|(bytes, rest)| Some((bytes.clone(), rest.start + bytes.len() as u64..rest.end)))
            }
        });
        Ok(pieces.boxed())
    }

    async fn engine_input(&self, blob: Blob) -> PortResult<Option<engine::Input>> {
        let path = self.path(blob);
        blocking("open a video", move || Ok(if_there(File::open(path))?.map(engine::Input::File))).await
    }

    async fn peaks(&self, blob: Blob) -> PortResult<Option<Bytes>> {
        let (path, (peaks, _)) = (self.path(blob), peaks(&self.path(blob)));
        blocking("read a file's peaks", move || {
            // Without their MP3 they are those of one in the making.
            Ok(if_there(fs::read(peaks))?.filter(|_| path.exists()).map(Bytes::from))
        })
        .await
    }

    async fn delete(&self, blob: Blob) -> PortResult<()> {
        let path = self.path(blob);
        let folder = self.folder.bucket(blob.bucket);
        blocking("delete a file", move || {
            // The draft first: a writer that is still at it can then no longer commit.
            if_there(fs::remove_file(part(&path)))?;
            if_there(fs::remove_file(&path))?;
            let (peaks, peaks_part) = peaks(&path);
            if_there(fs::remove_file(peaks_part))?;
            if_there(fs::remove_file(peaks))?;
            sync_folder(&folder)
        })
        .await
    }

    async fn list(&self, bucket: Bucket) -> PortResult<Vec<Id>> {
        let folder = self.folder.bucket(bucket);
        blocking("list a folder", move || {
            let mut ids = BTreeSet::new();
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                ids.extend(path.file_stem().and_then(|stem| stem.to_str()?.parse::<Id>().ok()));
            }
            Ok(ids.into_iter().collect())
        })
        .await
    }
}

fn read_piece(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = (range.end - range.start).min(PIECE as u64);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(PIECE)];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

struct FileWriter {
    blob: Blob,
    path: PathBuf,
    file: Arc<File>,
    /// `None` for a video.
    peaks: Option<Arc<File>>,
    has_peaks: bool,
    /// Bytes that are in the file; more are in the buffer.
    written: u64,
    buffer: Vec<u8>,
}

impl FileWriter {
    async fn flush(&mut self) -> PortResult<()> {
        let (file, offset) = (Arc::clone(&self.file), self.written);
        let buffer = std::mem::take(&mut self.buffer);
        self.written += buffer.len() as u64;
        self.buffer =
            blocking("write a file", move || file.write_all_at(&buffer, offset).map(|()| buffer)).await?;
        self.buffer.clear();
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for FileWriter {
    async fn write(&mut self, bytes: Bytes) -> PortResult<()> {
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn rewrite_head(&mut self, offset: u64, bytes: Bytes) -> PortResult<()> {
        self.flush().await?;
        let end = offset.saturating_add(bytes.len() as u64);
        if end > HEAD.min(self.written) {
            let text = format!("bytes {offset}..{end} are not within the head of {}", self.blob);
            return Err(PortError::new(PortErrorKind::Refused, "rewrite a file's head", text));
        }
        let file = Arc::clone(&self.file);
        blocking("rewrite a file's head", move || file.write_all_at(&bytes, offset)).await
    }

    async fn set_peaks(&mut self, peaks: Bytes) -> PortResult<()> {
        let Some(file) = self.peaks.clone() else {
            let text = format!("{} is no MP3", self.blob);
            return Err(PortError::new(PortErrorKind::Refused, "write a file's peaks", text));
        };
        self.has_peaks = true;
        blocking("write a file's peaks", move || {
            file.set_len(0)?;
            file.write_all_at(&peaks, 0)?;
            file.sync_all()
        })
        .await
    }

    async fn commit(mut self: Box<Self>) -> PortResult<()> {
        self.flush().await?;
        let FileWriter { blob, path, file, peaks, has_peaks, .. } = *self;
        let bucket = blob.bucket;
        blocking("commit a file", move || {
            if peaks.is_some() {
                commit_peaks(&path, has_peaks)?;
            }
            file.sync_all()?;
            failpoints::reach(if bucket == Bucket::Videos { "video.durable" } else { "mp3.durable" });
            fs::rename(part(&path), &path)?;
            failpoints::reach(if bucket == Bucket::Videos { "video.visible" } else { "mp3.visible" });
            let folder = path.parent().ok_or_else(|| io::Error::other("a file without a folder"))?;
            sync_folder(folder)
        })
        .await
        .map_err(|error| match error.kind {
            PortErrorKind::Full => error,
            _ => io_failed(format!("commit {blob}"), io::Error::other(error.source)),
        })
    }
}

/// Before the MP3 itself: nobody looks at them until that is there. Fails where the draft was deleted.
fn commit_peaks(path: &Path, has_peaks: bool) -> io::Result<()> {
    let (peaks, peaks_part) = peaks(path);
    if has_peaks {
        return fs::rename(peaks_part, peaks);
    }
    if_there(fs::remove_file(peaks_part))?;
    if_there(fs::remove_file(peaks)).map(drop)
}
