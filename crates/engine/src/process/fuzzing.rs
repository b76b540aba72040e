//! Fuzzing of the control protocol and of the video by range, each side against any bytes from the other.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::parent::fuzzing::{self, Pieces};
use super::ranges::{LONGEST, Range};
use super::served::Served;
use super::serving::{Fault, Serving};
use super::wire::{self, Request};
use crate::Source;
use crate::fuzzing::Bytes;

/// One of the four ends hears any bytes.
pub(crate) fn hear_any(bytes: &mut Bytes<'_>) {
    match bytes.byte() % 4 {
        0 => fuzzing::hear_any(bytes),
        1 => receive_any(bytes),
        2 => be_served_any(bytes),
        _ => serve_any(bytes),
    }
}

/// The child hears a request: no more is read than the longest has, and one that is understood can be said again and judged.
fn receive_any(bytes: &mut Bytes<'_>) {
    let times = bytes.choose(&[1, 1, 1, 10_000]);
    let said = bytes.rest();
    let times = times.min((2 << 20) / said.len().max(1) + 1);
    let mut pieces = Pieces { bytes: said, times, piece: 100, at: 0 };
    let mut counted = Counted(&mut pieces, 0);
    let received: io::Result<Request> = wire::receive(&mut counted);
    assert!(counted.1 <= wire::LONGEST, "{} bytes", counted.1);
    let Ok(request) = received else { return };
    let mut again = Vec::new();
    wire::send(&mut again, &request).expect("memory takes everything");
    let read: Request = wire::receive(&again[..]).expect("what we say we understand");
    assert_eq!((&read.options.tags, read.options.quality), (&request.options.tags, request.options.quality));
    assert_eq!((read.video, read.limits.threads), (request.video, request.limits.threads));
    let _ = request.options.check();
    if let Some(trim) = request.options.trim {
        let (start, end) = trim.samples(48_000);
        assert!(
            end.is_none_or(
                |end| (start <= end) == (trim.start <= trim.end.unwrap_or_default()) || start == end
            )
        );
    }
}

struct Counted<R>(R, usize);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        self.1 += n;
        Ok(n)
    }
}

/// The child is served by a parent that says anything: it reads within the size that it was told, or fails.
fn be_served_any(bytes: &mut Bytes<'_>) {
    const MOST: usize = 150_000;
    let (mut parent, child) = UnixStream::pair().expect("sockets can be made");
    let reads: Vec<_> =
        (0..bytes.byte() % 8).map(|_| (bytes.any_number(), bytes.number::<2>() as usize)).collect();
    let fill = vec![bytes.byte(); bytes.number::<3>() as usize % MOST];
    let said = bytes.take(8192);
    parent.write_all(said).and_then(|()| parent.write_all(&fill)).expect("the socket has room");
    parent.shutdown(Shutdown::Write).expect("the socket is open");
    let served = Served::new(child);
    for (offset, most) in reads {
        let mut buffer = vec![0; most];
        let Ok(n) = served.read_at(offset, &mut buffer) else { return };
        let size = served.len().expect("it is known by now");
        assert!(n <= most && (n == 0 || offset + n as u64 <= size));
        assert!(n > 0 || most == 0 || offset >= size, "an end before the end");
    }
}

/// A video that does what a store may do wrong.
struct Video {
    size: u64,
    fault: Wrong,
}

#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    ReadsLittle,
    EndsEarly,
    Lies,
    Fails,
}

impl Source for Video {
    fn len(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        assert!(buf.len() as u64 <= LONGEST && offset + buf.len() as u64 <= self.size, "within the video");
        buf.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = at as u8);
        match self.fault {
            Wrong::Nothing => Ok(buf.len()),
            Wrong::ReadsLittle => Ok(buf.len().min(1000)),
            Wrong::EndsEarly => Ok(0),
            Wrong::Lies => Ok(buf.len() + 1),
            Wrong::Fails => Err(io::Error::other("it is gone")),
        }
    }
}

/// The parent serves a child that asks for anything: it gets what it may have, byte for byte, until it asks for what it may not.
fn serve_any(bytes: &mut Bytes<'_>) {
    let fault =
        bytes.choose(&[Wrong::Nothing, Wrong::ReadsLittle, Wrong::EndsEarly, Wrong::Lies, Wrong::Fails]);
    let size = match bytes.byte() % 4 {
        0 => u64::MAX - bytes.number::<1>(),
        _ => bytes.number::<3>() % 100_000,
    };
    let mut asked = Vec::new();
    for _ in 0..bytes.byte() % 24 {
        let within = bytes.byte() & 7 > 0;
        let (mut offset, mut length) = (bytes.any_number(), bytes.number::<4>());
        if within && (1..u64::MAX / 2).contains(&size) {
            offset %= size;
            length %= size - offset + 2; // One byte too many is one of them.
        }
        let range = Range { offset, length: length as u32 };
        range.send(&mut asked).expect("memory takes everything");
    }
    asked.extend_from_slice(bytes.take(11)); // Perhaps the beginning of one more.
    let (parent, mut child) = UnixStream::pair().expect("sockets can be made");
    child.write_all(&asked).and_then(|()| child.shutdown(Shutdown::Write)).expect("the socket has room");
    let serving = Serving::start(Box::new(Video { size, fault }), parent).expect("a thread can be started");
    let mut served = Vec::new();
    let _ = child.take(32 << 20).read_to_end(&mut served); // An error is the end, too.
    let (expected, breach) = expected(size, fault, &asked);
    assert!(served == expected, "{} bytes, not {}", served.len(), expected.len());
    assert!(matches!(
        (serving.check(), breach),
        (Ok(()), None) | (Err(Fault::Breach(_)), Some(true)) | (Err(Fault::Source(_)), Some(false))
    ));
}

/// What the child gets, and how it ends: not at all, by its own breach (true), or by the store's fault (false).
fn expected(size: u64, fault: Wrong, asked: &[u8]) -> (Vec<u8>, Option<bool>) {
    if size > i64::MAX as u64 {
        return (Vec::new(), Some(false));
    }
    let mut expected = size.to_le_bytes().to_vec();
    for range in asked.as_chunks::<12>().0 {
        let [offset, length] = [&range[..8], &range[8..]]
            .map(|bytes| bytes.iter().rev().fold(0_u128, |number, byte| number << 8 | u128::from(*byte)));
        if length == 0 || length > 4 * 255 * 1024 || offset + length > u128::from(size) {
            return (expected, Some(true));
        }
        if !matches!(fault, Wrong::Nothing | Wrong::ReadsLittle) {
            return (expected, Some(false));
        }
        expected.extend((offset..offset + length).map(|at| at as u8));
    }
    (expected, None)
}
