//! The bytes of a request body that were read, for all attempts.

use bytes::{Bytes, BytesMut};

/// A buffer of several parts. Appending copies the data once, so that it does not keep a larger buffer of which it was a
/// part; reading copies nothing.
#[derive(Debug, Default)]
pub(super) struct ReplayBuffer {
    /// Parts to which nothing more is appended.
    parts: Vec<Bytes>,
    /// The length of these parts together.
    parts_length: usize,
    last: BytesMut,
}

impl ReplayBuffer {
    pub(super) fn len(&self) -> usize {
        self.parts_length + self.last.len()
    }

    /// Returns how much memory it takes.
    pub(super) fn capacity(&self) -> usize {
        self.parts_length + self.last.capacity()
    }

    /// Appends `data`. If it does not fit, the capacity becomes `capacity`, which must be enough.
    pub(super) fn append(&mut self, data: &[u8], capacity: usize) {
        let mut unused = self.last.capacity() - self.last.len();
        if data.len() > unused && self.parts.is_empty() {
            // What was not read yet stays in one part, so that it is sent in one chunk.
            let mut larger = BytesMut::with_capacity(capacity);
            larger.extend_from_slice(&self.last);
            self.last = larger;
            unused = data.len();
        }
        let (first, rest) = data.split_at(data.len().min(unused));
        self.last.extend_from_slice(first);
        if !rest.is_empty() {
            self.finish_part();
            self.last = BytesMut::with_capacity(capacity - self.parts_length);
            self.last.extend_from_slice(rest);
        }
    }

    /// Returns bytes from `offset` on, at most `max`; `None` at the end.
    pub(super) fn read(&mut self, mut offset: usize, max: usize) -> Option<Bytes> {
        if offset >= self.len() {
            return None;
        }
        if offset >= self.parts_length {
            self.finish_part();
        }
        for part in &self.parts {
            match offset.checked_sub(part.len()) {
                Some(beyond) => offset = beyond,
                None => return Some(part.slice(offset..part.len().min(offset + max))),
            }
        }
        None
    }

    /// Makes the last part readable. What is left of its capacity is for the next one.
    fn finish_part(&mut self) {
        if !self.last.is_empty() {
            self.parts_length += self.last.len();
            self.parts.push(self.last.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(buffer: &mut ReplayBuffer, max: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = buffer.read(all.len(), max) {
            assert!((1..=max).contains(&bytes.len()));
            all.extend_from_slice(&bytes);
        }
        all
    }

    #[test]
    fn everything_is_read_in_order_whenever_it_was_appended() {
        for max in [1, 2, 3, 100] {
            let mut buffer = ReplayBuffer::default();
            assert_eq!(buffer.read(0, max), None);
            let mut expected = Vec::new();
            for (data, capacity) in [("a", 4), ("bcd", 4), ("e", 8), ("", 8), ("fghijk", 12)] {
                buffer.append(data.as_bytes(), capacity);
                expected.extend_from_slice(data.as_bytes());
                assert_eq!((buffer.len(), buffer.capacity()), (expected.len(), capacity), "{data}");
                assert_eq!(read_all(&mut buffer, max), expected, "{data}");
            }
        }
    }

    #[test]
    fn what_was_not_read_yet_is_read_at_once() {
        let mut buffer = ReplayBuffer::default();
        for (data, capacity) in [("a", 1), ("bc", 3), ("d", 6)] {
            buffer.append(data.as_bytes(), capacity);
        }
        assert_eq!(buffer.read(0, 9).unwrap(), "abcd");
    }

    #[test]
    fn reading_copies_nothing() {
        let mut buffer = ReplayBuffer::default();
        buffer.append(b"abc", 6);
        let first = buffer.read(0, 9).unwrap();
        buffer.append(b"def", 6);
        let again = buffer.read(0, 9).unwrap();
        assert_eq!(first.as_ptr(), again.as_ptr());
        assert_eq!(buffer.read(3, 9).unwrap().as_ptr(), first.as_ptr().wrapping_add(3), "one allocation for all");
    }
}
