//! A body that anyone can check: bytes known by their place.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The bytes come round after so many: a prime, so that no shift by a buffer's size goes unseen.
const PERIOD: usize = 61;
const ALPHABET: &[u8; PERIOD] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxy";

/// Whole periods, as much as one frame may carry and one more.
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| ALPHABET.repeat(257).into());
const FRAME: usize = PERIOD * 256;

/// The byte at this place of any `/bytes/N`.
///
/// ```
/// let start: Vec<u8> = (0..12).map(delayed_backend::known_byte).collect();
/// assert_eq!(start, b"0123456789AB");
/// ```
#[must_use]
pub fn known_byte(place: u64) -> u8 {
    let index = usize::try_from(place % PERIOD as u64).unwrap_or_default();
    ALPHABET.get(index).copied().unwrap_or_default()
}

/// The known bytes from one place to another, made as they are sent.
#[derive(Debug, Clone)]
pub(crate) struct KnownBytes {
    from: u64,
    to: u64,
}

impl KnownBytes {
    /// The bytes at the places `from..to`.
    pub(crate) fn new(from: u64, to: u64) -> Self {
        Self { from, to: to.max(from) }
    }

    fn left(&self) -> u64 {
        self.to - self.from
    }
}

impl Body for KnownBytes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = usize::try_from(self.left()).unwrap_or(FRAME).min(FRAME);
        if length == 0 {
            return Poll::Ready(None);
        }
        let start = usize::try_from(self.from % PERIOD as u64).unwrap_or_default();
        self.from += length as u64;
        Poll::Ready(Some(Ok(Frame::data(BLOCK.slice(start..start + length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_bytes_are_the_same_wherever_one_starts() {
        for (from, to) in [(0, 0), (0, 1), (0, 100_000), (60, 62), (12_345, 54_321), (5, 3)] {
            let body = KnownBytes::new(from, to).collect().await.unwrap().to_bytes();
            assert!(body.iter().copied().eq((from..to).map(known_byte)), "{from}..{to}");
        }
    }

    #[tokio::test]
    async fn the_largest_body_can_be_started() {
        let mut body = KnownBytes::new(0, u64::MAX);
        assert_eq!(body.size_hint().exact(), Some(u64::MAX));
        assert!(body.frame().await.is_some());
    }
}
