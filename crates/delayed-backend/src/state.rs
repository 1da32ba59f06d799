//! What the backend plays and records, replaced as a whole.

use std::sync::{Arc, PoisonError, RwLock};

use http::request::Parts;

use crate::proxy::Proxy;
use crate::proxy::upstream::Upstream;
use crate::recorder::events::{Event, Events};
use crate::recorder::{Limits, Recorder};
use crate::routes::Route;
use crate::script::Script;
use crate::script::run::ScriptRun;
use crate::stubs::Stubs;
use crate::stubs::error::StubScriptError;
use crate::stubs::stub::{Conditions, Stub};

/// The state at one point in time. A request takes it once, when it arrives, so no change splits a request.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The script of the requests that match no stub.
    pub(crate) script: Arc<ScriptRun>,
    pub(crate) stubs: Arc<StubRuns>,
    /// Where the requests go that match no stub, instead of to a route.
    proxy: Option<Arc<Proxy>>,
    pub(crate) recorder: Arc<Recorder>,
    /// Whether this is the service of the sample, whose log has texts of its own.
    pub(crate) is_sample: bool,
}

/// Stubs, with their scripts.
#[derive(Debug, Default)]
pub(crate) struct StubRuns {
    pub(crate) stubs: Stubs,
    /// One for each stub: its own, or the one that has been set since.
    scripts: Vec<Arc<ScriptRun>>,
}

/// What responds to a request.
#[derive(Debug)]
pub(crate) enum Responder {
    Route(Route),
    /// A stub, with the parameters of the path.
    Stub(Arc<Stub>, Vec<(String, String)>),
    Proxy(Arc<Proxy>),
}

impl StubRuns {
    /// Plays the stubs' own scripts from their start, with the seed and the default delay of `settings`.
    fn new(stubs: Stubs, settings: &Script) -> Self {
        let scripts = stubs.stubs.iter().map(|stub| stub.script.clone());
        let scripts = scripts.zip(1..).map(|(script, number)| run(script, number, settings)).collect();
        Self { stubs, scripts }
    }

    /// Replaces the script of the requests that match no stub. Those of the stubs go on.
    fn with_script(&self, script: &Script) -> Self {
        Self { stubs: self.stubs.clone().with_script(script), scripts: self.scripts.clone() }
    }

    /// Replaces the script of the stubs with this name. The others go on.
    fn with_stub_script(&self, name: &str, script: Script, settings: &Script) -> Result<Self, StubScriptError> {
        self.script_of(name)?;
        if script.has_tls_faults() {
            return Err(StubScriptError::tls());
        }
        let script = script.with_settings_of(settings);
        let runs = self.stubs.stubs.iter().zip(&self.scripts).zip(1..);
        let runs = runs.map(|((stub, current), number)| match stub.name == name {
            true => run(script.clone(), number, settings),
            false => Arc::clone(current),
        });
        Ok(Self { stubs: self.stubs.clone(), scripts: runs.collect() })
    }

    /// Returns the script in force of the first stub with this name.
    pub(crate) fn script_of(&self, name: &str) -> Result<&Script, StubScriptError> {
        let mut runs = self.stubs.stubs.iter().zip(&self.scripts);
        let run = runs.find(|(stub, _)| stub.name == name);
        let names = || self.stubs.stubs.iter().map(|stub| stub.name.as_str());
        run.map(|(_, run)| run.script()).ok_or_else(|| StubScriptError::unknown(name, names()))
    }

    /// Plays the scripts in force from their start.
    fn restarted(&self, settings: &Script) -> Self {
        let scripts =
            self.scripts.iter().zip(1..).map(|(current, number)| run(current.script().clone(), number, settings));
        Self { stubs: self.stubs.clone(), scripts: scripts.collect() }
    }
}

/// Plays the script of the stub with this number, with the seed and the default delay of `settings`.
fn run(script: Script, number: u64, settings: &Script) -> Arc<ScriptRun> {
    Arc::new(ScriptRun::new(script.with_settings_of(settings).with_other_seed(number)))
}

impl State {
    fn new(script: Script, events: Events) -> Self {
        let recorder = Arc::new(Recorder::new(Limits::DEFAULT, events));
        Self {
            script: Arc::new(ScriptRun::new(script)),
            stubs: Arc::default(),
            proxy: None,
            recorder,
            is_sample: false,
        }
    }

    /// Returns what responds to a request, and the script that applies to it: the first stub that matches, the upstream
    /// if there is one, or a route.
    pub(crate) fn select(&self, head: &Parts) -> (Responder, Option<&ScriptRun>) {
        let StubRuns { stubs, scripts } = &*self.stubs;
        if stubs.is_some() {
            let conditions = Conditions::of(head);
            let mut candidates = stubs.stubs.iter().zip(scripts);
            let matching = candidates.find_map(|(stub, script)| Some((stub, stub.match_request(&conditions)?, script)));
            if let Some((stub, parameters, script)) = matching {
                return (Responder::Stub(Arc::clone(stub), parameters), Some(script));
            }
        }
        if let Some(proxy) = &self.proxy {
            return (Responder::Proxy(Arc::clone(proxy)), Some(&self.script));
        }
        let mut route = Route::of(&head.method, head.uri.path());
        if self.script.script().is_recording() && !route.is_scripted() && route != Route::Requests {
            route = Route::Recorded;
        }
        let scripted = route.is_scripted() || (stubs.script.is_some() && route != Route::Requests);
        (Responder::Route(route), scripted.then_some(&*self.script))
    }

    /// Replaces the stubs, and if they come with a script, the script.
    fn with_stubs(&self, stubs: Stubs) -> Self {
        let state = match &stubs.script {
            Some(script) => self.with_script(script.clone().with_settings_of(self.script.script())),
            None => self.clone(),
        };
        Self { stubs: Arc::new(StubRuns::new(stubs, self.script.script())), is_sample: false, ..state }
    }

    /// Plays another script from its start.
    fn with_script(&self, script: Script) -> Self {
        Self { script: Arc::new(ScriptRun::new(script)), is_sample: false, ..self.clone() }
    }

    /// Selects behaviors at random if there is a seed, otherwise in order. All scripts start anew.
    fn with_seed(&self, seed: Option<u64>) -> Self {
        let script = self.script.script().clone().with_optional_seed(seed);
        let stubs = Arc::new(self.stubs.restarted(&script));
        Self { script: Arc::new(ScriptRun::new(script)), stubs, ..self.clone() }
    }

    /// Removes the recorded requests.
    fn cleared(&self) -> Self {
        Self { recorder: Arc::new(self.recorder.emptied()), ..self.clone() }
    }

    /// Starts all scripts anew, and removes the recorded requests.
    fn reset(&self) -> Self {
        let stubs = Arc::new(self.stubs.restarted(self.script.script()));
        Self { script: Arc::new(self.script.restarted()), stubs, ..self.cleared() }
    }
}

/// The current state of a backend, and its replacement.
#[derive(Debug)]
pub(crate) struct StateCell {
    current: RwLock<Arc<State>>,
    pub(crate) events: Events,
}

impl StateCell {
    pub(crate) fn new(script: Script) -> Self {
        let events = Events::default();
        Self { current: RwLock::new(Arc::new(State::new(script, events.clone()))), events }
    }

    /// Returns the current state.
    pub(crate) fn current(&self) -> Arc<State> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_script(&self, script: Script) {
        self.replace(|state| {
            let stubs = Arc::new(state.stubs.with_script(&script));
            State { stubs, ..state.with_script(script) }
        });
        self.events.send(Event::Changed);
    }

    pub(crate) fn set_stub_script(&self, name: &str, script: Script) -> Result<(), StubScriptError> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let stubs = Arc::new(current.stubs.with_stub_script(name, script, current.script.script())?);
        *current = Arc::new(State { stubs, ..State::clone(&current) });
        drop(current);
        self.events.send(Event::Changed);
        Ok(())
    }

    pub(crate) fn set_stubs(&self, stubs: Stubs) {
        self.replace(|state| state.with_stubs(stubs));
        self.events.send(Event::Changed);
    }

    pub(crate) fn set_upstream(&self, upstream: Upstream) {
        let proxy = Some(Arc::new(Proxy::new(upstream)));
        self.replace(|state| State { proxy, is_sample: false, ..state.clone() });
    }

    /// Logs requests in the words of the sample, until there is another script, stubs or an upstream.
    pub(crate) fn log_as_sample(&self) {
        self.replace(|state| State { is_sample: true, ..state.clone() });
    }

    pub(crate) fn set_seed(&self, seed: Option<u64>) {
        self.replace(|state| state.with_seed(seed));
        self.events.send(Event::Changed);
    }

    pub(crate) fn clear_requests(&self) {
        self.replace(State::cleared);
        self.events.send(Event::Cleared);
    }

    pub(crate) fn reset(&self) {
        self.replace(State::reset);
        self.events.send(Event::Cleared);
    }

    fn replace(&self, change: impl FnOnce(&State) -> State) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(change(&current));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(state: &State) -> String {
        state.script.next_behavior().to_string()
    }

    #[test]
    fn a_request_that_has_taken_the_state_meets_the_script_from_before_a_change() {
        let cell = StateCell::new("status=500,status=501".parse().unwrap());
        let before = cell.current();
        cell.set_script("status=400,status=401".parse().unwrap());
        assert_eq!(next(&cell.current()), "status=400");
        assert_eq!(next(&before), "status=500");
        assert_eq!(next(&cell.current()), "status=401");
    }

    #[test]
    fn equal_scripts_of_stubs_draw_different_behaviors() {
        let cell = StateCell::new(Script::default().with_seed(7));
        cell.set_stubs("[[stub]]\nscript = 'ok,close'\n[[stub]]\nscript = 'ok,close'".parse().unwrap());
        let draws = |cell: &StateCell| {
            let state = cell.current();
            let draw = |script: &Arc<ScriptRun>| -> Vec<_> { (0..50).map(|_| script.next_behavior()).collect() };
            state.stubs.scripts.iter().map(draw).collect::<Vec<_>>()
        };
        let first = draws(&cell);
        assert_ne!(first[0], first[1]);
        cell.reset();
        assert_eq!(draws(&cell), first);
        cell.set_seed(Some(8));
        assert_ne!(draws(&cell), first);
    }

    #[test]
    fn a_reset_starts_the_script_anew() {
        let cell = StateCell::new("status=500,status=501".parse().unwrap());
        assert_eq!(next(&cell.current()), "status=500");
        cell.reset();
        assert_eq!(next(&cell.current()), "status=500");
        assert_eq!(next(&cell.current()), "status=501");
    }

    #[test]
    fn a_script_of_stubs_keeps_the_seed_and_the_delay_of_the_one_before() {
        let script: Script = "ok".parse().unwrap();
        let cell = StateCell::new(script.with_seed(7).with_delay(std::time::Duration::ZERO));
        let script: Script = "delay,close*9".parse().unwrap();
        cell.set_stubs("script = 'delay,close*9'".parse().unwrap());
        let expected = script.with_seed(7).with_delay(std::time::Duration::ZERO);
        assert_eq!(cell.current().script.script(), &expected);
        cell.set_seed(None);
        assert_eq!(cell.current().script.script().to_string(), "delay,close*9");
        assert_ne!(cell.current().script.script(), &expected);
    }
}
