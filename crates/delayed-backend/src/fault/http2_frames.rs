//! HTTP/2 frames: where they end in a stream of bytes, and the GOAWAY that replaces one.

use std::mem;

/// The length of a frame header (RFC 9113, section 4.1).
const HEADER: usize = 9;

/// The types of frames, and a flag (section 6).
const HEADERS: u8 = 1;
const PING: u8 = 6;
const ACK: u8 = 1;

/// Tracks the frames of one direction of a connection, from its first byte.
///
/// Another frame can be inserted only between two frames.
#[derive(Debug, Default)]
pub(crate) struct FrameTracker {
    /// How many bytes of the current frame's header have passed.
    header: usize,
    /// The length of the payload as far as the header has passed, and then how much of it is left.
    payload: usize,
    /// The type of the current frame, or of the last one.
    kind: u8,
}

impl FrameTracker {
    /// Returns how many bytes of the current frame's header, or of its payload, are left; 0 between two frames.
    pub(crate) fn left(&self) -> usize {
        match self.header {
            0 => 0,
            HEADER => self.payload,
            passed => HEADER - passed,
        }
    }

    /// Counts bytes that have passed.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.header == HEADER {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                if self.header < 3 {
                    self.payload = self.payload << 8 | usize::from(*first);
                }
                if self.header == 3 {
                    self.kind = *first;
                }
                self.header += 1;
                bytes = rest;
            }
            if self.header == HEADER && self.payload == 0 {
                *self = Self { kind: self.kind, ..Self::default() };
            }
        }
    }

    /// Returns whether the last frame that has passed completely is the head of a response.
    pub(crate) fn is_after_head(&self) -> bool {
        self.left() == 0 && self.kind == HEADERS
    }
}

/// Leaves the responses to PINGs out of a stream of bytes, however it is split.
#[derive(Debug, Default)]
pub(crate) struct PingFilter {
    /// The header of a frame, as far as it is known.
    header: Vec<u8>,
    /// How much of a response to a PING is still to be left out.
    skipped: usize,
}

impl PingFilter {
    /// Takes the beginning of `bytes`, which follow a complete frame or what has been taken. Returns how much it has taken,
    /// and a header that is to be sent after all, because it is not that of a response to a PING (RFC 9113, section 6.7).
    pub(crate) fn take(&mut self, bytes: &[u8]) -> (usize, Option<Vec<u8>>) {
        if self.skipped > 0 {
            return (self.skip(bytes), None);
        }
        let missing = bytes.len().min(HEADER - self.header.len());
        self.header.extend(bytes.iter().take(missing));
        let [high, middle, low, kind, flags, _, _, _, _] = self.header[..] else {
            return (missing, None);
        };
        let header = mem::take(&mut self.header);
        if kind == PING && flags & ACK != 0 {
            self.skipped = u32::from_be_bytes([0, high, middle, low]) as usize;
            return (missing, None);
        }
        (missing, Some(header))
    }

    /// Takes what belongs to a response to a PING that has begun. Returns how much.
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> usize {
        let skipped = bytes.len().min(self.skipped);
        self.skipped -= skipped;
        skipped
    }

    /// Returns the part of a header that is to be sent, as PINGs are responded to again.
    pub(crate) fn stop(&mut self) -> Vec<u8> {
        mem::take(&mut self.header)
    }
}

/// Returns a GOAWAY frame with NO_ERROR, whose last processed stream is `last_stream` (section 6.8).
pub(crate) fn goaway(last_stream: u32) -> Vec<u8> {
    const GOAWAY: [u8; HEADER] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
    const NO_ERROR: [u8; 4] = [0; 4];
    [&GOAWAY[..], &last_stream.to_be_bytes(), &NO_ERROR].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[0; 6], &vec![9; payload]].concat()
    }

    #[test]
    fn frames_are_tracked_in_chunks_of_any_size() {
        let bytes = [frame(0), frame(3), frame(70_000), frame(1)].concat();
        for size in [1, 2, 8, 9, 10, 4096, bytes.len()] {
            let mut frames = FrameTracker::default();
            bytes.chunks(size).for_each(|chunk| frames.advance(chunk));
            assert_eq!(frames.left(), 0, "in chunks of {size}");
        }
    }

    #[test]
    fn the_rest_of_the_current_frame_is_counted() {
        let mut frames = FrameTracker::default();
        assert_eq!(frames.left(), 0);
        frames.advance(&frame(3)[..5]);
        assert_eq!(frames.left(), 4);
        frames.advance(&frame(3)[5..9]);
        assert_eq!(frames.left(), 3);
        frames.advance(&frame(3)[9..11]);
        assert_eq!(frames.left(), 1);
        frames.advance(&frame(3)[11..]);
        assert_eq!(frames.left(), 0);
    }

    #[test]
    fn frames_are_distinguished_by_type() {
        let ping = [&[0, 0, 8, PING, ACK][..], &[0; 12]].concat();
        let mut frames = FrameTracker::default();
        for (bytes, is_after_head) in [(&[0, 0, 1, HEADERS, 0, 0, 0, 0, 1][..], false), (&[0], true), (&ping, false)] {
            frames.advance(bytes);
            assert_eq!(frames.is_after_head(), is_after_head);
        }
    }

    #[test]
    fn goaway_is_a_complete_frame() {
        let mut frames = FrameTracker::default();
        frames.advance(&goaway(7));
        assert_eq!(frames.left(), 0);
        assert_eq!(goaway(7).get(9..13), Some(&[0, 0, 0, 7][..]));
    }
}
