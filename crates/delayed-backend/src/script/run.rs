//! A script that is being played.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "tls")]
use crate::fault::TlsFault;
use crate::fault::{Behaviour, Fault};
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

    /// Returns the behaviour of the next request.
    pub(crate) fn next_behaviour(&self) -> Behaviour {
        let turns = self.turns.fetch_add(1, Ordering::Relaxed);
        let mut behaviour = self.behaviour_after(turns);
        if behaviour.fault.is_none()
            && self.script.has_tls_faults()
            && self.behaviour_after(turns + 1).tls_fault().is_some()
        {
            // So that the next request needs another connection, which plays the fault.
            behaviour.fault = Some(Fault::GoawayAfter(1));
        }
        behaviour
    }

    /// Takes the fault of the next TLS handshake, if the script has one before the behaviour of the next request.
    #[cfg(feature = "tls")]
    pub(crate) fn next_tls_fault(&self) -> Option<TlsFault> {
        let fault = |turns| self.behaviour_after(turns).tls_fault();
        let turns =
            self.turns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turns| fault(turns).map(|_| turns + 1));
        turns.ok().and_then(fault)
    }

    fn behaviour_after(&self, turns: u64) -> Behaviour {
        self.script.behaviour(NonZeroU64::MIN.saturating_add(turns))
    }
}
