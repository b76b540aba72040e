//! Mails as .eml files in a folder: any mail program opens them. The same Message-ID is the same file, however often it is sent.

use crate::{blocking, folder::DataFolder};
use async_trait::async_trait;
use services::ports::{Letter, Mailer, PortResult};
use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

/// The outbox of a data folder.
#[derive(Debug, Clone)]
pub struct Outbox {
    folder: PathBuf,
}

impl Outbox {
    /// The outbox in `folder`.
    pub fn new(folder: &DataFolder) -> Outbox {
        Outbox { folder: folder.outbox() }
    }
}

#[async_trait]
impl Mailer for Outbox {
    async fn send(&self, letter: &Letter) -> PortResult<()> {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "@._-".contains(c) { c } else { '_' };
        let name: String = letter.message_id.chars().map(safe).collect();
        let (folder, text) = (self.folder.clone(), letter.text.clone());
        blocking("put a mail into the outbox", move || {
            let draft = folder.join(format!("{name}.part"));
            let mut file = File::create(&draft)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&draft, folder.join(format!("{name}.eml")))?;
            File::open(&folder)?.sync_all()
        })
        .await
    }
}
