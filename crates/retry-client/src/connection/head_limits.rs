//! Limits on the head of a response.

/// The maximum size of a head in bytes. nginx's default is 4 or 8 KiB.
pub(crate) const MAX_SIZE: usize = 64 * 1024;

/// The maximum number of fields: as many short fields as fit into nginx's 8 KiB. hyper reserves memory for all of them.
pub(crate) const MAX_FIELDS: usize = 400;

/// Why hyper or h2 rejected the head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("it is larger than {} KiB, or has more than {MAX_FIELDS} fields", MAX_SIZE / 1024)]
    TooLarge,
    #[error("it is malformed, or larger than {} KiB", MAX_SIZE / 1024)]
    Malformed,
}
