//! Drives one task: makes its container from image and spec, finds it again, watches and ends it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use container::control::Phase;
use container::private::Private;
use container::{Container, ExitStatus, Step};
use executor::{Controller, Error, Exit, LogOptions, LogStream};
use futures::{StreamExt as _, stream};
use types::network::PublishedPort;
use types::task::ContainerStatus;
use types::{Task, TaskId};

use crate::blocking::blocking;
use crate::container_executor::Shared;
use crate::content;
use crate::health::Probe;
use crate::logs;
use crate::networks;
use crate::plan::{self, Plan};
use crate::records::Record;

/// Exit code of a container that the kernel ended for want of memory: 128 + SIGKILL.
const OOM_EXIT_CODE: i32 = 137;

/// Between two tries to put a running container on another network.
const ADJUST_PAUSE: Duration = Duration::from_secs(1);

/// Drives one task.
pub(crate) struct ContainerController {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    id: TaskId,
    task: Mutex<Arc<Task>>,
    /// Held while the container is being made, which goes on when `prepare` is dropped: whoever is
    /// to end it has to wait until it is there.
    making: Arc<tokio::sync::Mutex<()>>,
    observed: Mutex<Observed>,
}

/// What is known of the container.
#[derive(Clone, Default)]
struct Observed {
    container: Option<Container>,
    exit: Option<ExitStatus>,
    /// Ports the node opened for it, when it was made by this daemon.
    ports: Option<Vec<PublishedPort>>,
}

impl ContainerController {
    pub(crate) fn new(shared: Arc<Shared>, task: Arc<Task>) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                id: task.id,
                task: Mutex::new(task),
                making: Arc::default(),
                observed: Mutex::default(),
            }),
        }
    }
}

#[async_trait]
impl Controller for ContainerController {
    async fn update(&self, task: Arc<Task>) -> Result<(), Error> {
        // Of a container that is there, the grace period of its stop can still change, and the
        // networks it is on, which is seen to while it is waited for.
        *lock(&self.inner.task) = task;
        Ok(())
    }

    async fn prepare(&self) -> Result<(), Error> {
        let made = Arc::clone(&self.inner.making).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        let making = self.inner.shared.tracker.spawn(async move {
            let result = inner.make().await;
            drop(made);
            result
        });
        match making.await {
            Ok(result) => result,
            Err(error) => Err(Error::Fatal(format!(
                "making the container broke off: {error}"
            ))),
        }
    }

    async fn start(&self) -> Result<(), Error> {
        let Some(container) = self.inner.find().await? else {
            return Err(self.inner.gone());
        };
        // A start that was asked for twice is refused, and what came of the first one counts.
        if container.phase().await.map_err(passing)? == Phase::Created {
            let inner = Arc::clone(&self.inner);
            blocking(move || inner.record_start()).await?;
            match container.start().await {
                Ok(()) | Err(container::Error::Ended(_)) => {}
                Err(error) if error.fault().is_some() => {
                    self.inner.look_for_exit(&container)?;
                    let text = error.fault().map_or_else(String::new, ToString::to_string);
                    return Err(Error::Fatal(format!("starting container failed: {text}")));
                }
                Err(error) => return Err(passing(error)),
            }
        }
        if let Some(exit) = self.inner.look_for_exit(&container)? {
            return judge(&exit).map(drop);
        }
        let Some(probe) = self.inner.probe().await else {
            return Ok(());
        };
        // The task runs only once its container works (S8.43). One that ends before that is found
        // by the wait that follows.
        let healthy = tokio::select! {
            healthy = probe.until_healthy(&container) => healthy,
            exit = container.wait() => {
                let exit = exit.map_err(passing)?;
                self.inner.note_exit(&exit);
                return judge(&exit).map(drop);
            }
        };
        match healthy {
            Ok(()) => Ok(()),
            Err(why) => Err(self.end_unhealthy(&why).await?),
        }
    }

    async fn wait(&self) -> Result<Exit, Error> {
        let Some(container) = self.inner.find().await? else {
            return Err(self.inner.gone());
        };
        // As long as nobody knows better, the container runs, and works.
        let probe = self.inner.probe().await;
        let unhealthy = async {
            match &probe {
                None => std::future::pending().await,
                Some(probe) => probe.until_unhealthy(&container).await,
            }
        };
        let exit = tokio::select! {
            exit = container.wait() => exit,
            never = self.inner.keep_connected(&container) => match never {},
            why = unhealthy => return Err(self.end_unhealthy(&why).await?),
        };
        let exit = exit.map_err(passing)?;
        self.inner.note_exit(&exit);
        self.inner.disconnect().await;
        judge(&exit)
    }

    async fn shutdown(&self) -> Result<(), Error> {
        let Some(container) = self.inner.find_made().await? else {
            return Ok(());
        };
        let (inner, task) = (Arc::clone(&self.inner), lock(&self.inner.task).clone());
        let signal = blocking(move || match inner.shared.records.get(inner.id) {
            Some(record) => record.stop_signal,
            None => plan::stop_signal_of_spec(&inner.task()),
        });
        let grace = task.spec.container.stop_grace();
        let exit = container.stop(signal.await, grace).await.map_err(passing)?;
        self.inner.note_exit(&exit);
        self.inner.disconnect().await;
        Ok(())
    }

    async fn terminate(&self) -> Result<(), Error> {
        let Some(container) = self.inner.find_made().await? else {
            return Ok(());
        };
        match container.kill().await {
            Ok(()) | Err(container::Error::Ended(_)) => {}
            // That it could not be signalled may mean that it ends at this moment.
            Err(error) if error.fault().is_some() => {}
            Err(error) => return Err(passing(error)),
        }
        let exit = container.wait().await.map_err(passing)?;
        self.inner.note_exit(&exit);
        self.inner.disconnect().await;
        Ok(())
    }

    async fn remove(&self) -> Result<(), Error> {
        if let Some(container) = self.inner.find_made().await? {
            container.remove().await.map_err(passing)?;
            let mut observed = lock(&self.inner.observed);
            observed.container = None;
        }
        self.inner.shared.networks.release(self.inner.id).await?;
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.shared.records.remove(inner.id))
            .await
            .map_err(|error| Error::temporary(&error))
    }

    fn status(&self) -> Option<ContainerStatus> {
        let observed = lock(&self.inner.observed).clone();
        let (pid, exit) = match (&observed.container, &observed.exit) {
            (None, None) => return None,
            (_, Some(exit)) => (0, Some(exit)),
            (Some(container), None) => (u32::try_from(container.pid()).unwrap_or(0), None),
        };
        Some(ContainerStatus {
            container_id: self.inner.id.to_string(),
            pid,
            exit_code: exit.map(|exit| exit.code),
            oom_killed: exit.is_some_and(|exit| exit.oom_killed),
            ports: self.inner.ports(&observed),
        })
    }

    fn logs(&self, options: LogOptions) -> LogStream {
        let inner = Arc::clone(&self.inner);
        let found = stream::once(async move {
            match inner.find().await {
                Ok(Some(container)) => logs::stream(container, options),
                Ok(None) => stream::empty().boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        });
        found.flatten().boxed()
    }
}

impl ContainerController {
    /// Stops a container that does not work, and says what that means for its task.
    async fn end_unhealthy(&self, why: &str) -> Result<Error, Error> {
        tracing::warn!(task = %self.inner.id, why, "an unhealthy container is stopped");
        self.shutdown().await?;
        Ok(Error::Fatal(format!("unhealthy container: {why}")))
    }
}

impl Inner {
    /// How to tell whether the container works, if anyone wants to know.
    async fn probe(self: &Arc<Self>) -> Option<Probe> {
        let inner = Arc::clone(self);
        blocking(move || {
            let record = inner.shared.records.get(inner.id)?;
            let config = inner.shared.images.config(&record.image).ok();
            let of_image = config
                .as_ref()
                .and_then(|config| config.healthcheck.as_ref());
            Probe::new(inner.task().spec.container.healthcheck.as_ref(), of_image)
        })
        .await
    }

    fn task(&self) -> Arc<Task> {
        lock(&self.task).clone()
    }

    /// Makes the container unless there is one, and connects it.
    async fn make(self: &Arc<Self>) -> Result<(), Error> {
        if let Some(container) = self.find().await? {
            let finder = Arc::clone(self);
            if !blocking(move || finder.is_lost_unstarted()).await {
                return self.connect_again(&container).await;
            }
            container.remove().await.map_err(passing)?;
            *lock(&self.observed) = Observed::default();
        }
        let made = self.make_connected().await;
        if made.is_err() {
            let inner = Arc::clone(self);
            if let Err(error) = blocking(move || inner.shared.records.remove(inner.id)).await {
                tracing::warn!(task = %self.id, %error, "the record of a container that was not made stays");
            }
            self.disconnect().await;
        }
        made
    }

    /// Makes the container and connects it to its networks.
    async fn make_connected(self: &Arc<Self>) -> Result<(), Error> {
        let sandbox = self.shared.networks.reserve(&self.task()).await?;
        let planner = Arc::clone(self);
        let reserved = sandbox.clone();
        let (plan, private) = blocking(move || planner.plan(reserved.as_ref())).await?;
        let created = self
            .shared
            .runtime
            .create_with(&self.id.to_string(), &plan.spec, private)
            .await;
        let container = created.map_err(refused)?;
        let dns = &self.task().spec.container.dns;
        if let Some(sandbox) = &sandbox
            && let Err(error) = self
                .shared
                .networks
                .attach(sandbox, container.pid(), dns)
                .await
        {
            container.remove().await.map_err(passing)?;
            return Err(error);
        }
        let mut observed = lock(&self.observed);
        observed.container = Some(container);
        observed.ports = Some(sandbox.map_or_else(Vec::new, |sandbox| sandbox.host_ports));
        Ok(())
    }

    /// Ports the node opened for the container; those reported before when another daemon made it.
    fn ports(&self, observed: &Observed) -> Vec<PublishedPort> {
        observed.ports.clone().unwrap_or_else(|| {
            let reported = self.task().status.container_status.clone();
            reported.map_or_else(Vec::new, |container| container.ports)
        })
    }

    /// Makes sure that a container which was found is connected: the daemon before may have died on
    /// the way.
    async fn connect_again(&self, container: &Container) -> Result<(), Error> {
        let is_waiting = lock(&self.observed).exit.is_none()
            && container.phase().await.map_err(passing)? == Phase::Created;
        if is_waiting && let Some(sandbox) = self.shared.networks.reserve(&self.task()).await? {
            let (networks, task) = (&self.shared.networks, self.task());
            let dns = &task.spec.container.dns;
            networks.attach(&sandbox, container.pid(), dns).await?;
        }
        Ok(())
    }

    /// Puts a container that runs on the networks its task is on by now. The agent waits anew for a
    /// task that has changed, which is how a change comes here.
    async fn keep_connected(&self, container: &Container) -> Infallible {
        let task = self.task();
        let mut told = String::new();
        loop {
            let networks = &self.shared.networks;
            match networks.adjust(&task, container.pid()).await {
                Ok(()) => return std::future::pending().await,
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        tracing::warn!(task = %self.id, error = text, "networks were not changed");
                        told = text;
                    }
                }
            }
            tokio::time::sleep(ADJUST_PAUSE).await;
        }
    }

    /// Takes a container that has ended off its networks; `remove` tries again what fails here.
    async fn disconnect(&self) {
        if let Err(error) = self.shared.networks.release(self.id).await {
            tracing::warn!(task = %self.id, %error, "the task was not taken off its networks");
        }
    }

    /// Plans the container and claims its image. Blocks.
    fn plan(&self, sandbox: Option<&network::Sandbox>) -> Result<(Plan, Private), Error> {
        let task = self.task();
        let contents = self.shared.contents();
        // First: what is not there yet is waited for, and nothing is held meanwhile.
        let private = content::gather(&task, self.shared.place(), &contents)
            .map_err(|error| unseen(&error))?;
        let images = &self.shared.images;
        let name = &task.spec.container.image;
        let no_image = |error: image::Error| match error {
            image::Error::UnknownImage { .. } => Error::Fatal(format!("No such image: {name}")),
            error => Error::fatal(&error),
        };
        let image = images.resolve(name).map_err(no_image)?;
        // Claimed first: a removal before that is seen by `layers`, one after it is refused.
        self.shared.records.claim(self.id, image);
        let layers = images.layers(&image).map_err(no_image)?;
        let config = images.config(&image).map_err(no_image)?;
        let mut plan = plan::plan(&task, self.shared.place(), &config, layers)
            .and_then(|plan| plan::check_sources(&plan.spec.mounts).map(|()| plan))
            .map_err(|error| Error::Fatal(error.to_string()))?;
        if let Some(sandbox) = sandbox {
            let hosts = networks::own_names(&task, &plan.spec.hostname, sandbox);
            plan.spec.extra_hosts.extend(hosts);
        }
        plan.spec.dns = networks::resolver(&task, sandbox, &networks::of_machine());
        let record = Record {
            image,
            stop_signal: plan.stop_signal,
            labels: plan.labels.clone(),
            is_started: false,
            dns: task.spec.container.dns.clone(),
        };
        let written = self.shared.records.put(self.id, &record);
        written.map_err(|error| Error::Fatal(format!("recording the container: {error}")))?;
        Ok((plan, private))
    }

    /// Whether the container was lost before its program could run, as with a daemon that died
    /// while it made it. Blocks.
    fn is_lost_unstarted(&self) -> bool {
        let exit = lock(&self.observed).exit.clone();
        let fault = exit.and_then(|exit| exit.error);
        let is_lost = fault.is_some_and(|fault| fault.step == Step::ShimDied);
        let record = self.shared.records.get(self.id);
        is_lost && record.is_none_or(|record| !record.is_started)
    }

    /// Remembers that the program is about to be run. Blocks.
    fn record_start(&self) -> Result<(), Error> {
        let Some(record) = self.shared.records.get(self.id) else {
            return Ok(());
        };
        let started = Record {
            is_started: true,
            ..record
        };
        let written = self.shared.records.put(self.id, &started);
        written.map_err(|error| Error::Fatal(format!("recording the start: {error}")))
    }

    /// The task's container, if it has one by now.
    async fn find(&self) -> Result<Option<Container>, Error> {
        if let Some(container) = lock(&self.observed).container.clone() {
            return Ok(Some(container));
        }
        let found = self.shared.runtime.attach(&self.id.to_string()).await;
        let Some(container) = found.map_err(passing)? else {
            return Ok(None);
        };
        self.look_for_exit(&container)?;
        lock(&self.observed).container = Some(container.clone());
        Ok(Some(container))
    }

    /// The task's container, once nobody is making it any more.
    async fn find_made(&self) -> Result<Option<Container>, Error> {
        let _made = self.making.lock().await;
        self.find().await
    }

    /// Takes note of the container's end, if it has ended.
    fn look_for_exit(&self, container: &Container) -> Result<Option<ExitStatus>, Error> {
        let exit = container.exit_status().map_err(passing)?;
        if let Some(exit) = &exit {
            self.note_exit(exit);
        }
        Ok(exit)
    }

    fn note_exit(&self, exit: &ExitStatus) {
        lock(&self.observed).exit = Some(exit.clone());
    }

    /// Someone removed the container behind our back (S8.47).
    fn gone(&self) -> Error {
        Error::Fatal(format!("No such container: {}", self.id))
    }
}

/// What a container's end means for its task.
fn judge(exit: &ExitStatus) -> Result<Exit, Error> {
    match &exit.error {
        Some(fault) if fault.step == Step::ShimDied => {
            Err(Error::Fatal(format!("the container was lost: {fault}")))
        }
        Some(fault) => Err(Error::Fatal(format!("starting container failed: {fault}"))),
        None => Ok(Exit {
            code: exit.code,
            reason: if exit.oom_killed && exit.code == OOM_EXIT_CODE {
                "out of memory".to_owned()
            } else {
                String::new()
            },
        }),
    }
}

/// A container that could not be made: another node may manage.
fn refused(error: container::Error) -> Error {
    match error.fault() {
        Some(fault) => Error::Fatal(format!("creating container failed: {fault}")),
        None => Error::fatal(&error),
    }
}

/// Secrets and configs that cannot be put into the container, or not yet.
fn unseen(error: &content::Error) -> Error {
    if error.is_passing() {
        Error::Temporary(error.to_string())
    } else {
        Error::Fatal(error.to_string())
    }
}

/// A container that could not be asked: it is there still, so that giving its task up would leave
/// it running unseen.
fn passing(error: container::Error) -> Error {
    Error::temporary(&error)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; each change is a single assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
