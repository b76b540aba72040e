//! The data folder: who may use it at once, where what lies, and the secret that signs tokens.

use rustix::fs::{FlockOperation, flock};
use services::ports::Bucket;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A data folder, made where it was not.
#[derive(Debug, Clone)]
pub struct DataFolder {
    path: PathBuf,
}

/// The right to serve from a data folder, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Tenancy {
    _lock: File,
}

impl DataFolder {
    /// Opens the folder; makes it and what belongs in it, readable by its owner alone.
    pub fn open(path: &Path) -> io::Result<DataFolder> {
        let folder = DataFolder { path: path.to_owned() };
        for part in
            [path.to_owned(), folder.bucket(Bucket::Videos), folder.bucket(Bucket::Mp3s), folder.outbox()]
        {
            DirBuilder::new().recursive(true).mode(0o700).create(&part).map_err(|error| {
                io::Error::new(error.kind(), format!("the folder {} cannot be made: {error}", part.display()))
            })?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a bucket.
    pub fn bucket(&self, bucket: Bucket) -> PathBuf {
        self.path.join(match bucket {
            Bucket::Videos => "videos",
            Bucket::Mp3s => "mp3s",
        })
    }

    /// The folder of mails.
    pub fn outbox(&self) -> PathBuf {
        self.path.join("outbox")
    }

    /// The database of records and users.
    pub fn database(&self) -> PathBuf {
        self.path.join("tapedeck.db")
    }

    /// Moves in: alone with all roles (`alone`), or beside other processes with some roles each. `None` where others forbid it.
    pub fn move_in(&self, alone: bool) -> io::Result<Option<Tenancy>> {
        let lock = private_file().create(true).truncate(false).open(self.path.join("lock"))?;
        let how = if alone {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        match flock(&lock, how) {
            Ok(()) => Ok(Some(Tenancy { _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The secret that signs tokens: made once, by whichever process comes first, and shared by all.
    pub fn jwt_secret(&self) -> io::Result<String> {
        let path = self.path.join("jwt-secret");
        if !path.exists() {
            // Written whole under another name, then linked: nobody ever reads half a secret, and the first one stays.
            let draft = self.path.join(format!("jwt-secret.{}", services::random_hex::<8>()));
            let mut file = private_file().create_new(true).open(&draft)?;
            file.write_all(services::random_hex::<32>().as_bytes())?;
            file.sync_all()?;
            let linked = fs::hard_link(&draft, &path);
            fs::remove_file(&draft)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(fs::read_to_string(&path)?.trim().to_owned())
    }
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_alone_or_many_together() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path()).unwrap();
        let alone = folder.move_in(true).unwrap();
        assert!(alone.is_some());
        assert!(folder.move_in(true).unwrap().is_none());
        assert!(folder.move_in(false).unwrap().is_none());
        drop(alone);
        let some = folder.move_in(false).unwrap();
        assert!(some.is_some() && folder.move_in(false).unwrap().is_some());
        assert!(folder.move_in(true).unwrap().is_none());
    }

    #[test]
    fn all_processes_read_one_secret_that_only_their_user_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path()).unwrap();
        let secrets: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| folder.jwt_secret().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0] && secret.len() == 64));
        let mode = fs::metadata(dir.path().join("jwt-secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.path())
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("jwt-secret."))
                .count(),
            0
        );
    }
}
