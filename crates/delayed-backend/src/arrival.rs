//! A request's body on its way in: counted, digested, and kept only where it is echoed.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use crate::journal::BodySeen;

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
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        length += data.len() as u64;
        digest.update(&data);
        let room = limit.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(data.get(..room).unwrap_or_default());
    }
    let sha256 = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Arrived {
        seen: BodySeen { length, sha256 },
        kept: kept.freeze(),
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_body_is_digested_whole_and_kept_in_part() {
        let arrived = read(Full::from("abc"), 2).await.unwrap();
        assert_eq!(arrived.kept, "ab");
        assert_eq!(arrived.seen.length, 3);
        assert_eq!(
            arrived.seen.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
