//! Standard input, read into one buffer of ours that is wiped: no other buffer stands before it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;

use zeroize::Zeroizing;

/// So much is read at once.
const CHUNK: usize = 64 * 1024;
/// What some programs write before UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes that came and were not yet taken.
pub(super) struct Input<R> {
    source: R,
    buffer: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
    ended: bool,
    /// Bytes taken so far.
    pub(super) taken: u64,
    /// The line that comes next, from 1.
    pub(super) line: u64,
}

impl Input<File> {
    /// Standard input itself, past the standard library's own buffer.
    pub(super) fn standard() -> io::Result<Self> {
        Ok(Self::of(File::from(io::stdin().as_fd().try_clone_to_owned()?)))
    }
}

/// How many bytes standard input has, where it is a file.
pub(super) fn length() -> Option<u64> {
    let file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}

impl<R: Read> Input<R> {
    pub(super) fn of(source: R) -> Self {
        let buffer = Zeroizing::new(vec![0; CHUNK]);
        Self { source, buffer, start: 0, end: 0, ended: false, taken: 0, line: 1 }
    }

    /// What is there to take; empty at the end alone.
    pub(super) fn peek(&mut self) -> io::Result<&[u8]> {
        while self.start == self.end && !self.ended {
            (self.start, self.end) = (0, 0);
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn fill(&mut self) -> io::Result<()> {
        match self.source.read(&mut self.buffer[self.end..]) {
            Ok(count) => (self.end, self.ended) = (self.end + count, count == 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes so many bytes.
    pub(super) fn take(&mut self, count: usize) {
        let taken = &self.buffer[self.start..self.end][..count];
        self.line += taken.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.taken += count as u64;
        self.start += count;
    }

    /// Leaves out a byte order mark, and nothing else. At the beginning only.
    pub(super) fn skip_mark(&mut self) -> io::Result<()> {
        // A pipe may give it in pieces: the buffer is filled until it is known whether there is one.
        while self.end < MARK.len() && !self.ended {
            self.fill()?;
        }
        if self.buffer[..self.end].starts_with(MARK) {
            self.take(MARK.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_left_out_at_the_beginning_and_nowhere_else() {
        for (text, rest) in [("\u{feff}a", "a"), ("a\u{feff}", "a\u{feff}"), ("", ""), ("\u{fe00}", "\u{fe00}")] {
            let mut input = Input::of(text.as_bytes());
            input.skip_mark().unwrap();
            assert_eq!(input.peek().unwrap(), rest.as_bytes());
        }
    }
}
