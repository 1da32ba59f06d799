//! What is recorded of the body of a request: its length and digest, and its start.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use crate::recorder::recorded_request::{MAX_CONTENT, RecordedBody};

/// Trailers beyond these limits are not recorded, so that they cannot exhaust the memory.
const MAX_TRAILERS: usize = 16;
const MAX_TRAILER_BYTES: usize = 1024;

/// Reads a body to its end. Returns what to record of it, and its first `limit` bytes, or more.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<(RecordedBody, Bytes), B::Error>
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let mut record = BodyRecord::new(limit);
    while let Some(frame) = body.frame().await {
        record.add(&frame?);
    }
    Ok(record.finish())
}

/// The record of a body that is being read.
#[derive(Debug)]
pub(crate) struct BodyRecord {
    /// How many bytes are buffered.
    limit: usize,
    length: u64,
    digest: Sha256,
    buffer: BytesMut,
    trailers: Vec<String>,
}

impl BodyRecord {
    /// Buffers the first `limit` bytes, or as many as are recorded.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.max(MAX_CONTENT);
        Self { limit, length: 0, digest: Sha256::new(), buffer: BytesMut::new(), trailers: Vec::new() }
    }

    pub(crate) fn add(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.length += data.len() as u64;
            self.digest.update(data);
            let buffered = data.len().min(self.limit - self.buffer.len());
            self.buffer.extend_from_slice(data.get(..buffered).unwrap_or_default());
        }
        self.trailers.extend(frame.trailers_ref().into_iter().flat_map(lines));
    }

    /// Returns what to record, and what has been buffered.
    pub(crate) fn finish(self) -> (RecordedBody, Bytes) {
        let sha256 = self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        // A slice would keep the full buffer in memory.
        let content = Bytes::copy_from_slice(self.buffer.get(..MAX_CONTENT).unwrap_or(&self.buffer));
        (RecordedBody { length: self.length, sha256, trailers: self.trailers, content }, self.buffer.freeze())
    }
}

/// Formats the fields as `name: value`, within the limits.
fn lines(fields: &HeaderMap) -> impl Iterator<Item = String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let lines = fields.iter().map(move |(name, value)| format!("{name}: {}", text(value)));
    lines.filter(|line| line.len() <= MAX_TRAILER_BYTES).take(MAX_TRAILERS)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn the_full_body_is_digested_and_its_start_is_buffered() {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from(6))]);
        let body = Full::from("abc").with_trailers(std::future::ready(Some(Ok(trailers))));
        let (body, buffer) = read(body, 0).await.unwrap();
        assert_eq!((buffer, body.content), ("abc".into(), "abc".into()));
        assert_eq!(body.length, 3);
        assert_eq!(body.trailers, ["x-sum: 6"]);
        assert_eq!(body.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[tokio::test]
    async fn only_the_start_of_a_long_body_is_recorded() {
        let long = Bytes::from(vec![b'x'; 3 * MAX_CONTENT]);
        let (body, buffer) = read(Full::new(long), 2 * MAX_CONTENT).await.unwrap();
        assert_eq!(body.length, 3 * MAX_CONTENT as u64);
        assert_eq!((body.content.len(), buffer.len()), (MAX_CONTENT, 2 * MAX_CONTENT));
    }
}
