//! What the mails say. The first sentence and the subject of a ready mail are the original notifier's.

use crate::{
    job::{Job, State},
    ports::Letter,
};
use askama::Template;
use jiff::Timestamp;
use lettre::{
    Address,
    message::{Mailbox, Message, header},
};

/// From whom mails come, and where their links lead.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The From address.
    pub from: String,
    /// The page's address, without a slash at its end.
    pub public_url: String,
}

/// A mail that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// An address is none.
    #[error("“{0}” is not an address that a mail can go to or come from")]
    Address(String),
    /// The message could not be built.
    #[error("the mail could not be written: {0}")]
    Message(#[from] lettre::error::Error),
    /// Its text could not be rendered.
    #[error("the mail's text could not be written: {0}")]
    Text(#[from] askama::Error),
}

#[derive(Template)]
#[template(
    ext = "txt",
    source = "mp3 file_id: {{ mp3_fid }} is now ready!

{{ file_name }} was converted: {{ duration }}.

Listen to it or download it:
{{ url }}/

Or with curl, after signing in:
TOKEN=$(curl -s -X POST {{ url }}/login -u {{ owner }})
curl -o \"{{ mp3_fid }}.mp3\" -H \"Authorization: Bearer $TOKEN\" \"{{ url }}/download?fid={{ mp3_fid }}\"

{% if let Some(expires) = expires %}The MP3 is kept until {{ expires }}.
{% endif %}"
)]
struct Ready<'a> {
    mp3_fid: String,
    file_name: &'a str,
    duration: String,
    url: &'a str,
    owner: &'a str,
    expires: Option<String>,
}

#[derive(Template)]
#[template(
    ext = "txt",
    source = "{{ file_name }} could not be converted.

{{ text }}

{% if let Some(expires) = expires %}The video is kept until {{ expires }} for another try:
{% endif %}{{ url }}/

(Job {{ id }}, {{ code }})
"
)]
struct Failed<'a> {
    file_name: &'a str,
    text: &'a str,
    code: &'a str,
    url: &'a str,
    id: String,
    expires: Option<String>,
}

impl Sender {
    /// The mail about this job's end: the same bytes for the same end, but for its date.
    pub fn letter(&self, job: &Job, now: Timestamp) -> Result<Letter, LetterError> {
        let mailbox = |text: &str| match text.parse::<Address>() {
            Ok(address) => Ok(Mailbox::new(None, address)),
            Err(_) => Err(LetterError::Address(text.to_owned())),
        };
        let from = mailbox(&self.from)?;
        let message_id = format!("{}@{}", job.mail_id(), from.email.domain());
        let (subject, text) = self.words(job)?;
        let message = Message::builder()
            .message_id(Some(format!("<{message_id}>")))
            .date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(now.as_second().unsigned_abs()))
            .from(from)
            .to(mailbox(&job.owner)?)
            .subject(subject)
            .header(header::ContentType::TEXT_PLAIN)
            .body(text)?;
        Ok(Letter { message_id, to: job.owner.clone(), text: message.formatted() })
    }

    fn words(&self, job: &Job) -> Result<(String, String), LetterError> {
        let file_name = job.file_name.as_str();
        let expires = job.expires.map(|at| at.strftime("%-d %B %Y").to_string());
        if job.state == State::Failed {
            let (code, text) = job.error.as_ref().map_or(("", ""), |error| (&error.code, &error.text));
            let words =
                Failed { file_name, text, code, url: &self.public_url, id: job.id.to_string(), expires };
            return Ok((format!("{file_name} could not be converted"), words.render()?));
        }
        let words = Ready {
            mp3_fid: job.mp3_fid.map(|id| id.to_string()).unwrap_or_default(),
            file_name,
            duration: clock_time(job.mp3.as_ref().map_or(0.0, |mp3| mp3.duration)),
            url: &self.public_url,
            owner: &job.owner,
            expires,
        };
        Ok(("MP3 Download".to_owned(), words.render()?))
    }
}

/// "4:05", "1:02:03".
fn clock_time(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds.round()).unwrap_or_default().as_secs();
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}
