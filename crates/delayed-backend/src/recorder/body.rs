//! A request's body on its way in: counted, digested, and kept only where it is echoed.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use crate::recorder::BodySeen;

/// Trailers beyond this are not remembered: nobody is to fill the memory with them.
const MOST_LINES: usize = 16;
const LONGEST_LINE: usize = 1024;

/// A body that arrived whole.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) seen: BodySeen,
    /// As much of it as was to be kept.
    pub(crate) kept: Bytes,
}

/// Reads a body to its end, and keeps up to `limit` bytes of it.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<Arrived, B::Error>
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let (mut length, mut digest, mut kept) = (0, Sha256::new(), BytesMut::new());
    let mut trailers = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                length += data.len() as u64;
                digest.update(&data);
                let room = limit.saturating_sub(kept.len()).min(data.len());
                kept.extend_from_slice(data.get(..room).unwrap_or_default());
            }
            Err(frame) => trailers.extend(frame.into_trailers().iter().flat_map(lines)),
        }
    }
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Arrived { seen: BodySeen { length, sha256, trailers }, kept: kept.freeze() })
}

/// The fields as they stand in a message, as far as it is worth remembering them.
fn lines(fields: &HeaderMap) -> impl Iterator<Item = String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let lines = fields.iter().map(move |(name, value)| format!("{name}: {}", text(value)));
    lines.filter(|line| line.len() <= LONGEST_LINE).take(MOST_LINES)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_body_is_digested_whole_and_kept_in_part() {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from(6))]);
        let body = Full::from("abc").with_trailers(std::future::ready(Some(Ok(trailers))));
        let arrived = read(body, 2).await.unwrap();
        assert_eq!(arrived.kept, "ab");
        assert_eq!(arrived.seen.length, 3);
        assert_eq!(arrived.seen.trailers, ["x-sum: 6"]);
        assert_eq!(arrived.seen.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
