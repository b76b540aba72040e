//! The work's cover: a picture as it is attached to the video. We have no decoder of pictures, so one that is too large cannot be made smaller.

use id3::frame::{Picture, PictureType};

/// The kinds of picture that every player shows, and how they begin.
const KINDS: [(&[u8], &str); 2] = [(b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png")];

/// Bytes of an APIC frame beside its picture's, at most.
const FRAME: usize = 64;

/// The first picture that players show and that takes no more than `room`, with its frame.
pub(super) fn choose(pictures: &[&[u8]], room: usize) -> Option<Picture> {
    pictures.iter().find_map(|picture| {
        let (_, kind) = KINDS.iter().find(|(start, _)| picture.starts_with(start))?;
        (picture.len() + FRAME <= room).then(|| Picture {
            mime_type: (*kind).to_owned(),
            picture_type: PictureType::CoverFront,
            description: String::new(),
            data: picture.to_vec(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_picture_that_fits_and_is_one_is_the_cover() {
        let jpeg = [b"\xff\xd8\xff".to_vec(), vec![1; 1000]].concat();
        let png = [b"\x89PNG\r\n\x1a\n".to_vec(), vec![2; 100]].concat();
        let kind = |pictures: &[&[u8]], room| choose(pictures, room).map(|picture| picture.mime_type);
        assert_eq!(kind(&[b"GIF89a", b"", &jpeg, &png], 10_000).as_deref(), Some("image/jpeg"));
        assert_eq!(kind(&[&jpeg, &png], 1_000).as_deref(), Some("image/png"), "the first is too large");
        assert_eq!((kind(&[&jpeg], 1_003), kind(&[], 1_000)), (None, None));
    }
}
