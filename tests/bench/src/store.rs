//! Services created per second, by one client and by eight at once.

use std::time::Instant;

use anyhow::Result;
use harness::{Lab, Node, Programs};

use crate::client::{connect, spec};
use crate::failures::leader_of;
use crate::figures::Figures;
use crate::swarm;

/// Services created in one run.
const SERVICES: usize = 1000;

/// Runs of each measurement: each needs a swarm of its own.
const RUNS: usize = 3;

pub(crate) fn one_manager(programs: &Programs, figures: &mut Figures) -> Result<()> {
    measure(programs, 1, "store1", figures)
}

pub(crate) fn three_managers(programs: &Programs, figures: &mut Figures) -> Result<()> {
    measure(programs, 3, "store3", figures)
}

fn measure(programs: &Programs, managers: usize, name: &str, figures: &mut Figures) -> Result<()> {
    for (clients, label) in [(1, "create_1_client"), (8, "create_8_clients")] {
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            let lab: Lab = swarm(programs, managers, 0)?;
            let leader = leader_of(&lab)?;
            rates.push(create_all(lab.node(leader), clients)?);
        }
        figures.add(&format!("{name}.{label}"), "services/s", rates);
    }
    Ok(())
}

/// Creates the services and returns how many a second.
fn create_all(node: &Node, clients: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        let start = Instant::now();
        for client in 0..clients {
            let mut control = connect(node.socket()).await?;
            running.spawn(async move {
                for number in (client..SERVICES).step_by(clients) {
                    let spec = Some(spec(&format!("s{number}"), 0));
                    control
                        .create_service(proto::control::CreateServiceRequest { spec })
                        .await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        #[expect(clippy::cast_precision_loss, reason = "a thousand is exact")]
        Ok(SERVICES as f64 / start.elapsed().as_secs_f64())
    })
}
