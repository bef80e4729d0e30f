//! The agent: resumes its tasks, then keeps a session with whichever manager leads.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::files::{self, Files};
use crate::managers::Managers;
use crate::networks::Networks;
use crate::session::{self, Context, Ended};
use crate::tasks::Tasks;
use crate::{Error, ManagerDialer, Options, search};

/// A node's agent.
pub struct Agent {
    options: Options,
    leaving: CancellationToken,
}

impl Agent {
    /// An agent that does nothing before it is run.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            leaving: CancellationToken::new(),
        }
    }

    /// To be cancelled before the agent is shut down when the node leaves its swarm for good: the
    /// goodbye then says so, and no manager waits for it to come back.
    #[must_use]
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Runs the node's tasks until `shutdown`, with or without managers. Containers run on after.
    ///
    /// # Errors
    /// When its directory cannot be used.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Options {
            node_id,
            state_dir,
            tasks_dir,
            dialer,
            managers,
            executor,
            notices,
            mut tls,
        } = self.options;
        let dir = state_dir.join("worker");
        files::make_private_dir(&dir)?;
        let (files, records) = Files::open(&tasks_dir)?;
        // Before any task is driven on: what it is connected to has to be known.
        let networks = Networks::open(&dir, executor.clone());
        let known: BTreeSet<_> = records.keys().copied().collect();
        if let Err(error) = executor.retain(&known).await {
            tracing::error!(%error, "remains of unknown tasks were not removed");
        }
        tracing::info!(tasks = known.len(), node = %node_id, "agent resumes");
        let mut description = match executor.describe().await {
            Ok(description) => (&description).into(),
            Err(error) => {
                tracing::error!(%error, "the machine was not described");
                proto::objects::NodeDescription::default()
            }
        };
        description.tls = Some((&*tls.borrow_and_update()).into());
        let mut context = Context {
            node_id,
            tasks: Tasks::resume(executor.clone(), files, records),
            lost_peers: executor.lost_peers(),
            executor,
            managers: Managers::open(&dir, managers),
            networks,
            notices,
            leaving: self.leaving,
            description,
            tls,
        };
        keep_session(&mut context, &dialer, &shutdown).await;
        context.tasks.stop().await;
        context.networks.save();
        tracing::info!(node = %node_id, "agent stopped, containers run on");
        Ok(())
    }
}

/// Opens session after session until `shutdown`.
async fn keep_session(
    context: &mut Context,
    dialer: &Arc<dyn ManagerDialer>,
    shutdown: &CancellationToken,
) {
    loop {
        context.description.tls = Some((&*context.tls.borrow_and_update()).into());
        let register = proto::dispatcher::Register {
            description: Some(context.description.clone()),
            seal_key: context.tasks.shared.contents.seal_key().to_bytes(),
        };
        let search = search::search(dialer, context.managers.addrs(), &register);
        let Some(established) = shutdown.run_until_cancelled(search).await else {
            return;
        };
        let addr = established.addr.clone();
        tracing::info!(
            manager = addr,
            session = established.started.session_id,
            "session opened"
        );
        match session::run(context, established, shutdown).await {
            Ended::Stopped => return,
            ended @ (Ended::Closed(_) | Ended::Silent | Ended::Mismatch(_)) => {
                tracing::warn!(manager = addr, reason = %ended, "session lost");
                context.managers.demote(&addr);
            }
        }
    }
}
