//! Where the heads of a connection's requests begin and end, and which of them two readers could cut differently (RFC 9112
//! section 6.1): a length and a transfer coding together.

/// How much of a line is looked at: a name, and a length with room around it.
const LINE: usize = 64;
/// The most digits of a chunk's length: as many as its largest number has.
const SIZE: usize = 16;

/// Where the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Head,
    /// In a body, or in a chunk and its line end, with so many bytes to come.
    Body { left: u64, chunked: bool },
    /// In the line that says how long the next chunk is.
    Size,
    /// In the lines after the last chunk.
    Trailer,
    /// The connection speaks HTTP/2, which frames its bodies itself.
    Framed,
}

/// The line that is being read, without carriage returns.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// Its beginning, lower case.
    start: [u8; LINE],
    /// All its bytes.
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { start: [0; LINE], length: 0 }
    }
}

impl Line {
    fn start(&self) -> &[u8] {
        &self.start[..self.length.min(LINE)]
    }

    /// More of it.
    fn add(&mut self, more: &[u8]) {
        for byte in more.iter().filter(|byte| **byte != b'\r') {
            if let Some(place) = self.start.get_mut(self.length) {
                *place = byte.to_ascii_lowercase();
            }
            self.length += 1;
        }
    }
}

/// What is known of the message that is being read.
#[derive(Debug, Default)]
pub(super) struct Head {
    place: Place,
    line: Line,
    /// Lines of the present head.
    lines: usize,
    /// Heads that have ended.
    heads: usize,
    body: Option<u64>,
    has_coding: bool,
}

impl Head {
    /// Reads along; true if a head has both, or cannot be measured.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut ambiguous = false;
        while !bytes.is_empty() {
            match self.place {
                Place::Framed => break,
                Place::Body { left, chunked } => {
                    let passed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.pass(left - passed as u64, chunked);
                    bytes = &bytes[passed..];
                }
                _ => match bytes.iter().position(|byte| *byte == b'\n') {
                    None => {
                        self.line.add(bytes);
                        break;
                    }
                    Some(end) => {
                        let mut line = std::mem::take(&mut self.line);
                        line.add(&bytes[..end]);
                        ambiguous |= self.line_ended(line.start(), line.length);
                        bytes = &bytes[end + 1..];
                    }
                },
            }
        }
        ambiguous
    }

    fn pass(&mut self, left: u64, chunked: bool) {
        self.place = match (left, chunked) {
            (0, true) => Place::Size,
            (0, false) => Place::Head,
            _ => Place::Body { left, chunked },
        };
    }

    fn line_ended(&mut self, line: &[u8], length: usize) -> bool {
        match self.place {
            Place::Size => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let size = std::str::from_utf8(&line[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
                // Of a line longer than what is kept the number might go on: it is not read at all.
                let size = size.filter(|_| length <= LINE && digits <= SIZE);
                self.place = match size {
                    Some(0) => Place::Trailer,
                    Some(size) => Place::Body { left: size.saturating_add(2), chunked: true },
                    None => return true,
                };
                false
            }
            Place::Trailer => {
                if length == 0 {
                    self.place = Place::Head;
                }
                false
            }
            // Empty lines before a request are skipped (RFC 9112 section 2.2).
            Place::Head if length == 0 && self.lines > 0 => self.head_ended(),
            Place::Head if length > 0 => self.header(line, length),
            _ => false,
        }
    }

    fn header(&mut self, line: &[u8], length: usize) -> bool {
        self.lines += 1;
        if self.lines == 1 {
            if self.heads == 0 && line == b"pri * http/2.0" {
                self.place = Place::Framed;
            }
            return false;
        }
        if let Some(value) = line.strip_prefix(b"content-length:") {
            let value =
                std::str::from_utf8(value).ok().filter(|_| length <= LINE).and_then(|text| text.trim().parse().ok());
            self.body = value;
            return value.is_none();
        }
        self.has_coding |= line.starts_with(b"transfer-encoding:");
        false
    }

    fn head_ended(&mut self) -> bool {
        let (body, coded) = (self.body.take(), std::mem::take(&mut self.has_coding));
        self.lines = 0;
        self.heads += 1;
        match (body, coded) {
            (body, true) => {
                self.place = Place::Size;
                body.is_some()
            }
            (body, false) => {
                self.pass(body.unwrap_or(0), false);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambiguous(text: &str) -> bool {
        // A head may come in any pieces: byte by byte, and all at once.
        let mut head = Head::default();
        let piecewise = text.bytes().map(|byte| head.read(&[byte])).fold(false, |found, now| found | now);
        assert_eq!(piecewise, Head::default().read(text.as_bytes()), "{text}");
        piecewise
    }

    const BOTH: &str = "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn a_head_with_both_is_found_in_any_order_case_and_pieces() {
        assert!(ambiguous("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(ambiguous("POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nHost: a\r\ncontent-length: 3\r\n\r\n"));
        assert!(ambiguous("POST / HTTP/1.1\nTransfer-Encoding: chunked\ncontent-length: 3\n\n"));
    }

    #[test]
    fn one_of_them_alone_is_fine_and_a_body_is_not_a_head() {
        assert!(!ambiguous(
            "POST / HTTP/1.1\r\nContent-Length: 43\r\n\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n"
        ));
        assert!(!ambiguous("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
        assert!(!ambiguous("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        assert!(!ambiguous("POST / HTTP/1.1\r\ncontent-length-hint: 3\r\ntransfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_chunks_length_that_cannot_be_read_whole_is_refused() {
        let chunked =
            |size: &str| format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\nabc\r\n0\r\n\r\n");
        for sound in ["3", "3;a=b", "0000000000000003"] {
            assert!(!ambiguous(&chunked(sound)), "{sound}");
        }
        for zeros in [16, LINE - 1, LINE, 70] {
            assert!(ambiguous(&chunked(&format!("{}3", "0".repeat(zeros)))), "{zeros} zeros");
        }
        for wrong in ["", ";a", "-3", &format!("3;{}", "a".repeat(LINE))] {
            assert!(ambiguous(&chunked(wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_head_is_found_behind_whatever_came_before_it() {
        for before in [
            "\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab\r\nc",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\na\r\n\r\n0\r\nx: y\r\n\r\n",
        ] {
            assert!(ambiguous(&format!("{before}{BOTH}")), "{before}");
            assert!(!ambiguous(&format!("{before}GET / HTTP/1.1\r\nhost: a\r\n\r\n")), "{before}");
        }
    }
}
