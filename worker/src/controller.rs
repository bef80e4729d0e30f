//! Drives one task as a container that carries the task's id.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use container::control::Phase;
use container::{Container, ContainerSpec, ExitStatus};
use executor::{Controller, Error, Exit, LogOptions, LogStream};
use tokio::sync::OwnedMutexGuard;
use types::Task;
use types::container_spec::MountKind;
use types::task::ContainerStatus;

use crate::executor::Shared;
use crate::template::Names;
use crate::{logs, machine, spec};

/// Drives one task.
pub(crate) struct ContainerController {
    shared: Arc<Shared>,
    task: Mutex<Arc<Task>>,
    /// Held while the container is made or removed, so that one cannot overtake the other.
    slot: Arc<tokio::sync::Mutex<Slot>>,
    status: Mutex<Option<ContainerStatus>>,
}

/// What is known of the task's container.
#[derive(Default)]
pub(crate) struct Slot {
    container: Option<Container>,
    /// Made by this controller and not started yet.
    is_fresh: bool,
}

impl ContainerController {
    pub(crate) fn new(shared: Arc<Shared>, task: Arc<Task>) -> Self {
        Self {
            shared,
            task: Mutex::new(task),
            slot: Arc::default(),
            status: Mutex::default(),
        }
    }

    fn task(&self) -> Arc<Task> {
        self.task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The container, if there is one, made by this controller or by one before it.
    async fn find(&self, slot: &mut Slot) -> Result<Option<Container>, Error> {
        find(&self.shared, &self.task(), slot).await
    }

    async fn existing(&self) -> Result<Container, Error> {
        let mut slot = self.slot.lock().await;
        let container = self.find(&mut slot).await?;
        container.ok_or_else(|| Error::Fatal("the container is gone".to_owned()))
    }

    fn note(&self, container: &Container, exit: Option<&ExitStatus>) {
        let pid = if exit.is_some() {
            0
        } else {
            u32::try_from(container.pid()).unwrap_or(0)
        };
        let status = ContainerStatus {
            container_id: container.id().to_owned(),
            pid,
            exit_code: exit.map(|exit| exit.code),
            oom_killed: exit.is_some_and(|exit| exit.oom_killed),
        };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// Everything of the image and the machine that the container needs, checked. Blocking.
    fn plan(shared: &Shared, task: &Task) -> Result<ContainerSpec, Error> {
        let reference = &task.spec.container.image;
        let images = &shared.images;
        let missing = |error: image::Error| match error {
            image::Error::UnknownImage { .. } => {
                Error::Fatal(format!("No such image: {reference}"))
            }
            other => Error::fatal(&other),
        };
        let id = images.resolve(reference).map_err(missing)?;
        let config = images.config(&id).map_err(missing)?;
        let layers = images.layers(&id).map_err(missing)?;
        let node = shared.node();
        let names = Names {
            task,
            node: node.as_deref(),
            hostname: &machine::hostname(),
        };
        let spec = spec::build(&names, &config, layers).map_err(|e| Error::fatal(&e))?;
        for mount in &task.spec.container.mounts {
            if mount.kind == MountKind::Bind && !Path::new(&mount.source).exists() {
                let problem = format!("bind source path does not exist: {}", mount.source);
                return Err(Error::fatal(&spec::Error::Mount {
                    kind: "bind",
                    problem,
                }));
            }
        }
        Ok(spec)
    }
}

async fn find(shared: &Shared, task: &Task, slot: &mut Slot) -> Result<Option<Container>, Error> {
    if slot.container.is_none() {
        let id = task.id.as_str();
        slot.container = shared
            .runtime
            .attach(id)
            .await
            .map_err(|e| Error::temporary(&e))?;
    }
    Ok(slot.container.clone())
}

/// Makes the container, or finds that it is there.
async fn make(
    shared: Arc<Shared>,
    task: Arc<Task>,
    mut slot: OwnedMutexGuard<Slot>,
) -> Result<Container, Error> {
    if let Some(container) = find(&shared, &task, &mut slot).await? {
        let exit = container.exit_status().map_err(|e| Error::temporary(&e))?;
        if exit.is_none_or(|exit| exit.error.is_none()) {
            return Ok(container);
        }
        // The daemon before this one was lost while making it: its program never ran.
        slot.container = None;
        container.remove().await.map_err(|e| Error::temporary(&e))?;
    }
    let planning = {
        let (shared, task) = (shared.clone(), task.clone());
        tokio::task::spawn_blocking(move || ContainerController::plan(&shared, &task))
    };
    let spec = planning.await.map_err(|e| Error::fatal(&e))??;
    let container = shared
        .runtime
        .create(task.id.as_str(), &spec)
        .await
        .map_err(|error| refused(&error))?;
    *slot = Slot {
        container: Some(container.clone()),
        is_fresh: true,
    };
    Ok(container)
}

/// The runtime's refusal without the container's id, which the reader of a task's error has.
fn refused(error: &container::Error) -> Error {
    match error.fault() {
        Some(fault) => Error::Fatal(fault.to_string()),
        None => Error::fatal(error),
    }
}

#[async_trait]
impl Controller for ContainerController {
    async fn update(&self, task: Arc<Task>) -> Result<(), Error> {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
        Ok(())
    }

    async fn prepare(&self) -> Result<(), Error> {
        let slot = self.slot.clone().lock_owned().await;
        let making = self
            .shared
            .making
            .spawn(make(self.shared.clone(), self.task(), slot));
        let container = making.await.map_err(|e| Error::fatal(&e))??;
        self.note(&container, None);
        Ok(())
    }

    async fn start(&self) -> Result<(), Error> {
        let (container, is_fresh) = {
            let mut slot = self.slot.lock().await;
            let container = self.find(&mut slot).await?;
            (container, std::mem::take(&mut slot.is_fresh))
        };
        let container =
            container.ok_or_else(|| Error::Fatal("the container is gone".to_owned()))?;
        self.note(&container, None);
        if !is_fresh {
            match container.phase().await.map_err(|e| Error::temporary(&e))? {
                Phase::Created => {}
                Phase::Running | Phase::Exited => return Ok(()),
            }
        }
        match container.start().await {
            Ok(()) | Err(container::Error::Ended(_)) => Ok(()),
            Err(error) => {
                if let Ok(Some(exit)) = container.exit_status() {
                    self.note(&container, Some(&exit));
                }
                Err(refused(&error))
            }
        }
    }

    async fn wait(&self) -> Result<Exit, Error> {
        let container = self.existing().await?;
        self.note(&container, None);
        let exit = container.wait().await.map_err(|e| Error::temporary(&e))?;
        self.note(&container, Some(&exit));
        Ok(Exit {
            code: exit.code,
            reason: reason(&exit, &self.task()),
        })
    }

    async fn shutdown(&self) -> Result<(), Error> {
        let container = {
            let mut slot = self.slot.lock().await;
            self.find(&mut slot).await?
        };
        let Some(container) = container else {
            return Ok(());
        };
        let task = self.task();
        let own = &task.spec.container;
        // The image may be gone by now; the signal was checked when the container was made.
        let config = self.shared.images.resolve(&own.image);
        let config = config
            .and_then(|id| self.shared.images.config(&id))
            .unwrap_or_default();
        let signal = spec::stop_signal(&own.stop_signal, &config.stop_signal);
        let signal = signal.map_err(|e| Error::fatal(&e))?;
        let exit = container.stop(signal, own.stop_grace()).await;
        let exit = exit.map_err(|e| Error::temporary(&e))?;
        self.note(&container, Some(&exit));
        Ok(())
    }

    async fn terminate(&self) -> Result<(), Error> {
        let mut slot = self.slot.lock().await;
        let Some(container) = self.find(&mut slot).await? else {
            return Ok(());
        };
        drop(slot);
        match container.kill().await {
            Ok(()) | Err(container::Error::Ended(_)) => {}
            Err(error) => return Err(Error::temporary(&error)),
        }
        let exit = container.wait().await.map_err(|e| Error::temporary(&e))?;
        self.note(&container, Some(&exit));
        Ok(())
    }

    async fn remove(&self) -> Result<(), Error> {
        let mut slot = self.slot.lock().await;
        if let Some(container) = self.find(&mut slot).await? {
            container.remove().await.map_err(|e| Error::temporary(&e))?;
            *slot = Slot::default();
        }
        Ok(())
    }

    fn status(&self) -> Option<ContainerStatus> {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn logs(&self, options: LogOptions) -> LogStream {
        let (shared, task, slot) = (self.shared.clone(), self.task(), self.slot.clone());
        let container = async move {
            let mut slot = slot.lock().await;
            find(&shared, &task, &mut slot).await
        };
        logs::read(container, options)
    }
}

/// What is known of an exit beyond its code.
fn reason(exit: &ExitStatus, task: &Task) -> String {
    if let Some(fault) = &exit.error {
        return fault.to_string();
    }
    if !exit.oom_killed {
        return String::new();
    }
    match task.spec.resources.limits.memory_bytes {
        0 => "out of memory: the machine had none left".to_owned(),
        limit => format!("out of memory: the limit is {limit} bytes"),
    }
}
