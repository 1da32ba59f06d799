//! Where HTTP/2 frames end in a stream of bytes.

/// The length of the header that every frame starts with (RFC 9113, section 4.1).
const HEADER: usize = 9;

/// Follows the frames of one direction of a connection, seen from its first byte.
///
/// A frame of one's own can be slipped in only where another has ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frames {
    /// How many bytes of the current frame's header have been seen.
    seen: usize,
    /// The payload's length, as far as its three bytes have been seen; then what is left of it.
    payload: usize,
}

impl Frames {
    /// How many of `bytes` belong to the frame under way; 0 where one has just ended.
    pub(crate) fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        let mut ahead = self.clone();
        let rest = bytes.iter().take_while(|byte| {
            let inside = !ahead.between();
            ahead.advance(std::slice::from_ref(*byte));
            inside
        });
        rest.count()
    }

    /// Takes note of bytes that went by.
    pub(crate) fn advance(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while let Some((first, rest)) = bytes.split_first() {
            if self.seen < HEADER {
                self.header_byte(*first);
                bytes = rest;
            } else {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            }
            if self.seen == HEADER && self.payload == 0 {
                *self = Self::default();
            }
        }
    }

    fn between(&self) -> bool {
        self.seen == 0
    }

    fn header_byte(&mut self, byte: u8) {
        if self.seen < 3 {
            self.payload = self.payload << 8 | usize::from(byte);
        }
        self.seen += 1;
    }
}

/// A GOAWAY that disowns every stream above `last_stream`, and blames nobody (section 6.8).
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
    fn frames_end_where_their_length_says_however_they_are_cut() {
        let bytes = [frame(0), frame(3), frame(70_000), frame(1)].concat();
        for size in [1, 2, 8, 9, 10, 4096, bytes.len()] {
            let mut frames = Frames::default();
            bytes.chunks(size).for_each(|chunk| frames.advance(chunk));
            assert!(frames.between(), "in chunks of {size}");
        }
    }

    #[test]
    fn the_rest_of_a_frame_is_measured() {
        let mut frames = Frames::default();
        assert_eq!(frames.rest_of_frame(&frame(3)), 0);
        frames.advance(&frame(3)[..5]);
        let rest = [&frame(3)[5..], &frame(2)].concat();
        assert_eq!(frames.rest_of_frame(&rest), 7);
        assert_eq!(frames.rest_of_frame(&rest[..2]), 2);
        frames.advance(&rest[..7]);
        assert_eq!(frames.rest_of_frame(&rest[7..]), 0);
    }

    #[test]
    fn goaway_is_a_frame() {
        let mut frames = Frames::default();
        frames.advance(&goaway(7));
        assert!(frames.between());
        assert_eq!(goaway(7).get(9..13), Some(&[0, 0, 0, 7][..]));
    }
}
