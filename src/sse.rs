//! An incremental reader of server-sent events. It knows nothing of LibreChat.
//!
//! The law it keeps: the events it finds do not depend on where the chunks break. Lines end with LF, CRLF or CR; an
//! event ends at an empty line. An event that grows past [`MAX_EVENT_BYTES`] is left out, and reading goes on behind it.

use memchr::memchr2;

/// The longest event that is read. LibreChat's last frame repeats the whole answer, which is the largest there is.
pub const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event:` field; empty where there was none.
    pub name: &'a str,
    /// The `data:` lines, joined by LF.
    pub data: &'a [u8],
}

/// Reads events from chunks of any size.
#[derive(Debug, Default)]
pub struct EventReader {
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// The data of the event so far.
    data: Vec<u8>,
    has_data: bool,
    name: String,
    /// The last chunk ended in CR: an LF at the start of the next one belongs to it.
    after_cr: bool,
    /// The current event is too large and is being left out.
    oversized: bool,
    left_out: u64,
}

impl EventReader {
    /// Reads a chunk, and hands every event that ends in it to `on_event`.
    pub fn push(&mut self, mut chunk: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_cr) && chunk[0] == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', chunk) else {
                self.keep(chunk);
                return;
            };
            if self.line.is_empty() {
                self.line_ends(&chunk[..end], on_event);
            } else {
                self.keep(&chunk[..end]);
                let line = std::mem::take(&mut self.line);
                self.line_ends(&line, on_event);
                self.line = line;
                self.line.clear();
            }
            self.after_cr = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
        }
    }

    /// The stream is over: an event whose empty line is missing counts as ended.
    pub fn finish(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.line_ends(&line, on_event);
        }
        self.line_ends(b"", on_event);
    }

    /// How many events were left out because of their size.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn keep(&mut self, part: &[u8]) {
        if self.line.len() + part.len() > MAX_EVENT_BYTES {
            // What is kept of the line no longer matters, but it must not look like an empty one.
            self.oversized = true;
            self.line.truncate(1);
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn line_ends(&mut self, line: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        if line.is_empty() {
            self.event_ends(on_event);
        } else if let Some(value) = field(line, b"data") {
            if self.data.len() + value.len() > MAX_EVENT_BYTES {
                self.oversized = true;
                return;
            }
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(value);
        } else if let Some(value) = field(line, b"event") {
            self.name.clear();
            self.name.push_str(&String::from_utf8_lossy(value));
        }
    }

    fn event_ends(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        if self.oversized {
            self.left_out += 1;
        } else if self.has_data {
            on_event(Event { name: &self.name, data: &self.data });
        }
        self.oversized = false;
        self.has_data = false;
        self.data.clear();
        self.name.clear();
        // One large event must not hold its memory for the rest of a long stream.
        self.data.shrink_to(64 * 1024);
        self.line.shrink_to(64 * 1024);
    }
}

/// The value of a line `name: value` or `name:value`.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(rest.strip_prefix(b" ").unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        let mut keep = |event: Event<'_>| events.push((event.name.to_owned(), event.data.to_vec()));
        for chunk in chunks {
            reader.push(chunk, &mut keep);
        }
        reader.finish(&mut keep);
        events
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let events =
            read(&[b": hello\r\nevent: message\r\ndata: a\r\ndata:b\r\n\r\ndata: c\n\nid: 7\n\nevent: error\rdata:  d\r\rdata: e"]);
        let expected: Vec<(String, Vec<u8>)> = [("message", "a\nb"), ("", "c"), ("error", " d"), ("", "e")]
            .map(|(name, data)| (name.to_owned(), data.as_bytes().to_vec()))
            .into();
        assert_eq!(events, expected);
    }

    #[test]
    fn a_huge_line_is_left_out_and_reading_goes_on() {
        let mut reader = EventReader::default();
        let mut events = Vec::new();
        let mut keep = |event: Event<'_>| events.push(event.data.to_vec());
        reader.push(b"data: ", &mut keep);
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..160 {
            reader.push(&chunk, &mut keep);
            assert!(reader.line.capacity() <= MAX_EVENT_BYTES * 2, "memory stays bounded");
        }
        reader.push(b"\n\ndata: after\n\n", &mut keep);
        assert_eq!(reader.left_out(), 1);
        assert_eq!(events, [b"after".to_vec()]);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "(data|event|id|:)?[:] ?[a-zé]{0,6}(\r|\n|\r\n){1,3}((data|event): ?[a-z]{0,4}(\r|\n|\r\n){1,3}){0,8}", cuts in prop::collection::vec(0usize..200, 0..12)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&chunks), read(&[bytes]));
        }
    }
}
