//! A script that is being played.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "tls")]
use crate::fault::TlsFault;
use crate::fault::{Behavior, Fault};
use crate::script::Script;

/// A script, and how many requests and connections have taken their turn.
#[derive(Debug)]
pub(crate) struct ScriptRun {
    script: Script,
    turns: AtomicU64,
}

impl ScriptRun {
    /// Returns a run from the start of the script.
    pub(crate) fn new(script: Script) -> Self {
        Self { script, turns: AtomicU64::new(0) }
    }

    /// Returns a run of the same script, from its start.
    pub(crate) fn restarted(&self) -> Self {
        Self::new(self.script.clone())
    }

    pub(crate) fn script(&self) -> &Script {
        &self.script
    }

    /// Returns the behavior of the next request.
    pub(crate) fn next_behavior(&self) -> Behavior {
        let turns = self.turns.fetch_add(1, Ordering::Relaxed);
        let mut behavior = self.behavior_after(turns);
        if behavior.fault.is_none()
            && self.script.has_tls_faults()
            && self.behavior_after(turns + 1).tls_fault().is_some()
        {
            // So that the next request needs another connection, which plays the fault.
            behavior.fault = Some(Fault::GoawayAfter(1));
        }
        behavior
    }

    /// Takes the fault of the next TLS handshake, if the script has one before the behavior of the next request.
    #[cfg(feature = "tls")]
    pub(crate) fn next_tls_fault(&self) -> Option<TlsFault> {
        let fault = |turns| self.behavior_after(turns).tls_fault();
        let turns =
            self.turns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turns| fault(turns).map(|_| turns + 1));
        turns.ok().and_then(fault)
    }

    fn behavior_after(&self, turns: u64) -> Behavior {
        self.script.behavior(NonZeroU64::MIN.saturating_add(turns))
    }
}
