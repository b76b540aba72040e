//! The child's side of the video by range: a [`Source`] over descriptor 0 that asks for whole blocks and keeps the last few.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use super::ranges::{BLOCK, RUN, Range};
use crate::Source;

/// Blocks that are kept, 4 MiB: libav goes to and fro between an index and the sound, and within an interleave.
const KEPT: usize = 16;

/// The video, read by the parent.
pub(super) struct Served {
    socket: UnixStream,
    size: Cell<Option<u64>>,
    blocks: RefCell<Blocks>,
}

/// Blocks by their number, the last used one last.
#[derive(Default)]
struct Blocks {
    kept: VecDeque<(u64, Vec<u8>)>,
    /// The block behind the last one that came, and how many came with it.
    next: u64,
    run: u64,
}

impl Served {
    pub fn new(socket: UnixStream) -> Served {
        Served { socket, size: Cell::default(), blocks: RefCell::default() }
    }
}

impl Source for Served {
    /// Waits, the first time, for the parent to say so.
    fn len(&self) -> io::Result<u64> {
        if let Some(size) = self.size.get() {
            return Ok(size);
        }
        let mut size = [0; 8];
        (&self.socket).read_exact(&mut size).map_err(not_served)?;
        let size = u64::from_le_bytes(size);
        // As the parent does: no file is larger, and libav has signed offsets.
        i64::try_from(size).map_err(io::Error::other)?;
        self.size.set(Some(size));
        Ok(size)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let size = self.len()?;
        if offset >= size {
            return Ok(0);
        }
        let mut blocks = self.blocks.borrow_mut();
        let block = blocks.get(offset / BLOCK, size, &self.socket)?;
        let rest = usize::try_from(offset % BLOCK).ok().and_then(|at| block.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

impl Blocks {
    /// The block with this number, which lies within the video.
    fn get(&mut self, number: u64, size: u64, socket: &UnixStream) -> io::Result<&[u8]> {
        match self.kept.iter().position(|(kept, _)| *kept == number) {
            Some(at) => {
                let found = self.kept.remove(at);
                self.kept.extend(found);
            }
            None => self.fetch(number, size, socket).map_err(not_served)?,
        }
        Ok(self.kept.back().map_or(&[], |(_, block)| block))
    }

    /// Asks for this block, and where reading goes on in sequence for those behind it; leaves it as the last one.
    fn fetch(&mut self, number: u64, size: u64, socket: &UnixStream) -> io::Result<()> {
        let longest = if number == self.next { (self.run * 2).clamp(1, RUN) } else { 1 };
        let missing =
            |number: &u64| *number * BLOCK < size && self.kept.iter().all(|(kept, _)| kept != number);
        self.run = (number..number + longest).take_while(missing).count() as u64;
        self.next = number + self.run;
        let offset = number * BLOCK;
        let end = size.min(self.next * BLOCK);
        let length = u32::try_from(end - offset).map_err(io::Error::other)?;
        Range { offset, length }.send(socket)?;

        self.kept.drain(..(self.kept.len() + self.run as usize).saturating_sub(KEPT));
        for number in number..self.next {
            let mut block = vec![0; BLOCK.min(end - number * BLOCK) as usize];
            (&mut &*socket).read_exact(&mut block)?;
            self.kept.push_back((number, block));
        }
        let asked_for = self.kept.remove(self.kept.len() - self.run as usize);
        self.kept.extend(asked_for);
        Ok(())
    }
}

/// What the parent did not send. Why, it knows and says itself.
fn not_served(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), "the parent ended the reading of the video")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::super::serving::Serving;
    use super::*;

    /// A video of this size whose bytes tell their place, and the reads it has seen.
    #[derive(Clone)]
    struct Pattern(u64, Arc<Mutex<Vec<(u64, usize)>>>);

    impl Source for Pattern {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0)
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            self.1.lock().unwrap().push((offset, buf.len()));
            buf.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = byte_at(at));
            Ok(buf.len())
        }
    }

    fn byte_at(offset: u64) -> u8 {
        (offset * 31 + offset / 256 * 7 + offset / BLOCK) as u8
    }

    fn pattern(size: u64) -> (Pattern, Served, Serving) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let video = Pattern(size, Arc::default());
        let serving = Serving::start(Box::new(video.clone()), ours).unwrap();
        (video, Served::new(theirs), serving)
    }

    fn assert_read(served: &Served, offset: u64, most: usize) -> usize {
        let mut buf = vec![0; most];
        let n = served.read_at(offset, &mut buf).unwrap();
        assert!(buf[..n].iter().zip(offset..).all(|(byte, at)| *byte == byte_at(at)), "at {offset}");
        n
    }

    #[test]
    fn reading_in_sequence_takes_few_and_ever_longer_requests() {
        let size = 20 * BLOCK + 7;
        let (video, served, serving) = pattern(size);
        let mut offset = 0;
        while offset < size {
            let n = assert_read(&served, offset, 32 * 1024);
            assert!(n > 0);
            offset += n as u64;
        }
        assert_eq!(assert_read(&served, size, 100), 0);
        let asked: Vec<u64> = video.1.lock().unwrap().iter().map(|(_, length)| *length as u64).collect();
        let blocks = [1, 2, 4, 4, 4, 4].map(|n| n * BLOCK);
        assert_eq!(asked, [&blocks[..], &[BLOCK + 7]].concat());
        assert_eq!(serving.bytes(), size);
    }

    #[test]
    fn a_size_that_no_file_has_is_not_believed() {
        let size_of = |size: u64| {
            let (mut parent, child) = UnixStream::pair().unwrap();
            io::Write::write_all(&mut parent, &size.to_le_bytes()).unwrap();
            parent.shutdown(std::net::Shutdown::Write).unwrap();
            let served = Served::new(child);
            (served.len().is_ok(), served.read_at(size - 1, &mut [0; 9]).is_err())
        };
        assert_eq!(size_of(i64::MAX as u64), (true, true), "nothing comes behind the size");
        assert_eq!(size_of(u64::MAX), (false, true));
    }

    #[test]
    fn going_to_and_fro_between_blocks_asks_for_each_once() {
        let (video, served, _serving) = pattern(100 * BLOCK);
        for round in 0..50 {
            for number in [0, 90, 40] {
                assert_read(&served, number * BLOCK + round * 1000, 1000);
            }
        }
        let block = BLOCK as usize;
        assert_eq!(*video.1.lock().unwrap(), [(0, block), (90 * BLOCK, block), (40 * BLOCK, block)]);
    }

    proptest! {
        #[test]
        fn any_read_gives_the_bytes_of_its_place(
            size in 1..30 * BLOCK,
            reads in proptest::collection::vec((0.0..1.1, 1..600_000_usize, 1..6_usize), 1..20),
        ) {
            let (_, served, _serving) = pattern(size);
            for (place, most, times) in reads {
                let mut offset = (size as f64 * place) as u64;
                for _ in 0..times {
                    let n = assert_read(&served, offset, most);
                    prop_assert_eq!(n == 0, offset >= size);
                    offset += n as u64;
                }
            }
            prop_assert!(served.blocks.borrow().kept.len() <= KEPT);
        }
    }
}
