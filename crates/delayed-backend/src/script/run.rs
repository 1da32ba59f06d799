//! A script that is being played.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fault::Behaviour;
use crate::script::Script;

/// A script, and how many requests it has been applied to.
#[derive(Debug)]
pub(crate) struct ScriptRun {
    script: Script,
    requests: AtomicU64,
}

impl ScriptRun {
    /// Returns a run from the start of the script.
    pub(crate) fn new(script: Script) -> Self {
        Self { script, requests: AtomicU64::new(0) }
    }

    /// Returns a run of the same script, from its start.
    pub(crate) fn restarted(&self) -> Self {
        Self::new(self.script.clone())
    }

    pub(crate) fn script(&self) -> &Script {
        &self.script
    }

    /// Returns the behaviour of the next request.
    pub(crate) fn next_behaviour(&self) -> Behaviour {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        self.script.behaviour(NonZeroU64::MIN.saturating_add(before))
    }
}
