//! HTTP/2 frames in a stream of bytes: where they end, and the GOAWAY that replaces one.

/// The length of a frame header (RFC 9113, section 4.1).
const HEADER: usize = 9;

/// Tracks the frames of one direction of a connection, from its first byte.
///
/// Another frame can be inserted only between two frames.
#[derive(Debug, Clone, Default)]
pub(crate) struct FrameTracker {
    /// How many bytes of the current frame's header have passed.
    header: usize,
    /// The length of the payload, while the header passes; then how much of it is left.
    payload: usize,
}

impl FrameTracker {
    /// Returns how many of `bytes` belong to the current frame; 0 between two frames.
    pub(crate) fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        let mut ahead = self.clone();
        let rest = bytes.iter().take_while(|byte| {
            let inside = !ahead.is_between_frames();
            ahead.advance(std::slice::from_ref(*byte));
            inside
        });
        rest.count()
    }

    /// Counts bytes that have passed.
    pub(crate) fn advance(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while let Some((first, rest)) = bytes.split_first() {
            if self.header < HEADER {
                self.header_byte(*first);
                bytes = rest;
            } else {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            }
            if self.header == HEADER && self.payload == 0 {
                *self = Self::default();
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.header == 0
    }

    fn header_byte(&mut self, byte: u8) {
        if self.header < 3 {
            self.payload = self.payload << 8 | usize::from(byte);
        }
        self.header += 1;
    }
}

/// Returns a GOAWAY without an error, which says that streams above `last_stream` are not processed (section 6.8).
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
            assert!(frames.is_between_frames(), "in chunks of {size}");
        }
    }

    #[test]
    fn the_rest_of_the_current_frame_is_counted() {
        let mut frames = FrameTracker::default();
        assert_eq!(frames.rest_of_frame(&frame(3)), 0);
        frames.advance(&frame(3)[..5]);
        let rest = [&frame(3)[5..], &frame(2)].concat();
        assert_eq!(frames.rest_of_frame(&rest), 7);
        assert_eq!(frames.rest_of_frame(&rest[..2]), 2);
        frames.advance(&rest[..7]);
        assert_eq!(frames.rest_of_frame(&rest[7..]), 0);
    }

    #[test]
    fn goaway_is_a_complete_frame() {
        let mut frames = FrameTracker::default();
        frames.advance(&goaway(7));
        assert!(frames.is_between_frames());
        assert_eq!(goaway(7).get(9..13), Some(&[0, 0, 0, 7][..]));
    }
}
