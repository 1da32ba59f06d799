//! Limits on the head of a response.

/// The largest head, in bytes. nginx takes 4 or 8 KiB unless told otherwise.
pub(crate) const MAX_SIZE: usize = 64 * 1024;

/// The most fields: as many as nginx has room for in 8 KiB where they are short. hyper makes room for all of them for each
/// head.
pub(crate) const MAX_FIELDS: usize = 400;

/// Why a head is refused that the protocol's own code has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("it is larger than {} KiB, or has more than {MAX_FIELDS} fields", MAX_SIZE / 1024)]
    TooLarge,
    #[error("it is malformed, or larger than {} KiB", MAX_SIZE / 1024)]
    Malformed,
}
