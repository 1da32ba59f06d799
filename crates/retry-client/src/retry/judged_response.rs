//! A response, judged when it arrives: whatever depends on its status reads that here, rather than in its fields.

use http::Response;

use crate::retry::judge::Judgment;

/// A response, and what it means for its call.
pub(crate) struct JudgedResponse<B> {
    pub(crate) response: Response<B>,
    pub(crate) judgment: Judgment,
}

/// Boxed, as it is moved often.
pub(crate) type BoxResponse<B> = Box<JudgedResponse<B>>;
