//! The service: its handler, its server, and how it is drained.

use std::{convert::Infallible, future::pending, sync::Arc};

use hyper::service::service_fn;
use tokio::{net::TcpListener, runtime::Handle, time::timeout};

use crate::{
    gateway::downstream::Downstream,
    generation::Generations,
    permit::ConcurrencyLimiter,
    request_handler::RequestHandler,
    server::{self, tasks::Tasks, workers::Workers},
    settings::LoadedSettings,
};

/// A gateway, or the service of the sample, depending on its settings. Clones share everything.
///
/// ```
/// use retry_service::{LoadedSettings, Service};
/// use tokio::{net::TcpListener, sync::oneshot};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let args = ["retry-service", "--forward", "--upstream", "http://localhost:8080", "--count", "2"];
/// let settings = LoadedSettings::from_args(args.map(Into::into))?;
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let (shutdown, requested) = oneshot::channel::<()>();
/// let service = tokio::spawn(Service::new(settings).run(listener, async { drop(requested.await) }));
/// // … send requests …
/// drop(shutdown);
/// let aborted = service.await?;
/// assert_eq!(aborted.requests, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) generations: Arc<Generations>,
    pub(crate) in_flight: ConcurrencyLimiter,
    pub(crate) tunnels: ConcurrencyLimiter,
    pub(crate) tasks: Tasks,
    /// The runtimes that serve connections beside the current one.
    runtimes: Arc<[Handle]>,
}

/// What was still open when the drain ended, and was aborted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aborted {
    /// Requests in flight.
    pub requests: usize,
    /// Connections of clients, tunnels included.
    pub connections: usize,
    /// Tunnels.
    pub tunnels: usize,
}

impl Service {
    /// Creates a service. `--listen`, `--threads`, `--admin` and the settings of the log are ignored: they are for the
    /// program. The service runs on the caller's runtime.
    #[must_use]
    pub fn new(settings: LoadedSettings) -> Self {
        Self::on(settings, &[])
    }

    /// Creates a service whose connections are served on the current runtime and on these.
    pub(crate) fn on(settings: LoadedSettings, runtimes: &[Handle]) -> Self {
        let (tasks, tunnels) = (Tasks::default(), ConcurrencyLimiter::default());
        let generations = Arc::new(Generations::new(settings, tasks.clone(), tunnels.clone()));
        Self { generations, in_flight: ConcurrencyLimiter::default(), tunnels, tasks, runtimes: runtimes.into() }
    }

    /// Serves on `listener` until `shutdown` completes. Then the listener is closed, and requests in flight may take up
    /// to `--drain-timeout`. Dropping the future aborts all requests.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Aborted {
        let _abort = self.tasks.abort_on_drop();
        self.serve(listener, shutdown).await;
        self.drain(pending()).await
    }

    /// Returns the number of requests in flight.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.in_flight.in_use()
    }

    /// Serves on `listener` until `shutdown` completes, and then starts to drain.
    pub(crate) async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let limits = self.generations.current().loaded.settings.limits();
        let new_handler =
            || Arc::new(RequestHandler { current: self.generations.add_worker(), in_flight: self.in_flight.clone() });
        let mut workers = Workers::new(new_handler());
        self.runtimes.iter().for_each(|runtime| workers.add(runtime.clone(), new_handler()));
        let new_service = |handler: &Arc<RequestHandler>, address, state| {
            let (handler, downstream) = (Arc::clone(handler), Arc::new(Downstream::new(address, state)));
            service_fn(move |request| {
                let (handler, downstream) = (Arc::clone(&handler), Arc::clone(&downstream));
                // On the heap, because each of the nested futures would contain it.
                let request = Box::new(request);
                async move { Ok::<_, Infallible>(handler.respond(&downstream, request).await) }
            })
        };
        server::serve(listener, limits, &workers, new_service, &self.tasks, shutdown).await;
    }

    /// Waits until all connections are closed, and aborts them after `--drain-timeout` or when `abort` completes.
    pub(crate) async fn drain(&self, abort: impl Future<Output = ()>) -> Aborted {
        let limit = self.generations.current().loaded.settings.timeouts.drain_timeout;
        tokio::select! {
            biased;
            () = self.tasks.drained() => Aborted::default(),
            _ = timeout(limit, abort) => {
                let aborted = Aborted {
                    requests: self.requests_in_flight(),
                    connections: self.tasks.count(),
                    tunnels: self.tunnels.in_use(),
                };
                self.tasks.abort();
                aborted
            }
        }
    }
}
