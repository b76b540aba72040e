//! The wire contract of the queues `video` and `mp3`: bodies byte for byte as the original services write them.

use crate::id::Id;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, ser::Formatter};
use std::{fmt, io};

/// A queue, by its name on the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Queue {
    /// `video`: a video waits for its conversion.
    Video,
    /// `mp3`: an MP3 is ready and its owner wants to know. Failures are never published here.
    Mp3,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Queue::Video => "video",
            Queue::Mp3 => "mp3",
        })
    }
}

/// A message: a JSON object with `video_fid`, `mp3_fid` and `username`; keys that we do not know pass through.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The video's id, which is the job's.
    pub video_fid: Id,
    /// The MP3's id, once there is one.
    pub mp3_fid: Option<Id>,
    /// The owner's e-mail.
    pub username: String,
    /// Keys of others, in their order.
    pub others: Map<String, Value>,
}

/// A body that is not such a message.
#[derive(Debug, thiserror::Error)]
#[error("not a message of this queue: {0}")]
pub struct NotAMessage(String);

impl Message {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Message, NotAMessage> {
        let mut others: Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| NotAMessage(error.to_string()))?;
        let id = |value: Option<Value>, key: &str| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                text.parse().map(Some).map_err(|error| NotAMessage(format!("`{key}`: {error}")))
            }
            // Not the value itself: it may be as long as the broker lets it be.
            Some(_) => Err(NotAMessage(format!("`{key}` is not a string"))),
        };
        // `shift_remove` keeps the order of what stays.
        let video_fid = id(others.shift_remove("video_fid"), "video_fid")?
            .ok_or_else(|| NotAMessage("`video_fid` is missing".into()))?;
        let mp3_fid = id(others.shift_remove("mp3_fid"), "mp3_fid")?;
        let Some(Value::String(username)) = others.shift_remove("username") else {
            return Err(NotAMessage("`username` is missing or not a string".into()));
        };
        Ok(Message { video_fid, mp3_fid, username, others })
    }

    /// The body, spelled as Python's `json.dumps` spells it.
    pub fn body(&self) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("video_fid".into(), Value::String(self.video_fid.to_string()));
        object.insert("mp3_fid".into(), self.mp3_fid.map_or(Value::Null, |id| Value::String(id.to_string())));
        object.insert("username".into(), Value::String(self.username.clone()));
        object.extend(self.others.clone());
        let mut body = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut body, JsonDumps);
        object.serialize(&mut serializer).expect("a JSON value can always be written to memory");
        body
    }
}

/// Python's `json.dumps` with its defaults: `", "`, `": "`, and ASCII alone.
struct JsonDumps;

impl Formatter for JsonDumps {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() {
                writer.write_all(&[c as u8])?;
            } else {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_spelled_as_the_originals_spell_it() {
        let golden =
            br#"{"video_fid": "65f0c2a91b7e4d0012ab34cd", "mp3_fid": null, "username": "georgio@email.com"}"#;
        let message = Message::parse(golden).unwrap();
        assert_eq!(message.username, "georgio@email.com");
        assert_eq!(message.body(), golden);
    }

    #[test]
    fn unknown_keys_pass_through_and_text_beyond_ascii_is_escaped() {
        let golden = br#"{"video_fid": "65f0c2a91b7e4d0012ab34cd", "mp3_fid": "65f0c2a91b7e4d0012ab34ce", "username": "a@b.c", "z": [1, "\u00e9\ud83c\udfa7"], "a": {"k": true}}"#;
        assert_eq!(Message::parse(golden).unwrap().body(), golden);
    }

    #[test]
    fn what_is_no_message_is_told_in_words() {
        for (body, word) in [
            (&b"\xff"[..], "not a message"),
            (b"[]", "not a message"),
            (b"{}", "video_fid"),
            (br#"{"video_fid": "zz", "username": "a"}"#, "24 hex"),
            (br#"{"video_fid": "65f0c2a91b7e4d0012ab34cd"}"#, "username"),
        ] {
            assert!(Message::parse(body).unwrap_err().to_string().contains(word));
        }
    }
}
