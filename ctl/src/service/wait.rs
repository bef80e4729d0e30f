//! Waiting until a service is as asked for, and showing how it goes.
//!
//! Progress goes to standard error, so that standard output is only what scripts want of it.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use proto::control::WatchServiceRequest;
use tokio::time::Instant;
use types::Service;

use super::progress::{Picture, Slot, Verdict};
use crate::connect::Connection;
use crate::error::Error;
use crate::human::go_duration;
use crate::output;

/// Slots shown one by one; more are summed up.
const SLOTS_SHOWN_MAX: usize = 20;
/// Width taken when the terminal does not tell its own.
const WIDTH_DEFAULT: usize = 80;
/// Longer than any wait: when there is nothing to wait for by the clock.
const FAR: Duration = Duration::from_secs(3600);

/// Whether to wait.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct WaitFlags {
    /// Do not wait until the service is as asked for
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    detach: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The new spec: going back is a failure.
    Update,
    /// The previous spec.
    Rollback,
}

impl WaitFlags {
    /// Waits, unless told not to, until every task runs the service's spec and stays running for
    /// the monitor period.
    pub(crate) async fn wait(
        self,
        connection: &Connection,
        service: &Service,
        waiting: Waiting,
    ) -> Result<(), Error> {
        if self.detach {
            return Ok(());
        }
        let mut screen = Screen::new(self.quiet);
        tokio::select! {
            result = watch(connection, service, waiting, &mut screen) => result,
            _ = tokio::signal::ctrl_c() => Err(Error::Interrupted(format!(
                "\nOperation continuing in background.\nUse `swarmctl service ps {}` to check \
                 progress.",
                service.spec.name
            ))),
        }
    }
}

async fn watch(
    connection: &Connection,
    service: &Service,
    waiting: Waiting,
    screen: &mut Screen,
) -> Result<(), Error> {
    let name = &service.spec.name;
    let request = WatchServiceRequest {
        key: service.id.to_string(),
    };
    let mut views = connection
        .control()
        .watch_service(request)
        .await?
        .into_inner();
    let monitor = match waiting {
        Waiting::Update => service.spec.update_config.monitor,
        Waiting::Rollback => service.spec.rollback_config.monitor,
    };
    // When the service became as it should stay, and how.
    let mut steady: Option<(Instant, Verdict, Picture)> = None;
    loop {
        let until = steady
            .as_ref()
            .map_or(FAR, |(since, ..)| monitor.saturating_sub(since.elapsed()));
        let view = tokio::select! {
            view = views.message() => view,
            () = tokio::time::sleep(until) => match steady.take() {
                Some((_, verdict, picture)) => return end(verdict, &picture, waiting, screen),
                None => continue,
            },
        };
        let view = view.map_err(|status| lost(name, &Error::from(status)))?;
        let view = view.ok_or_else(|| lost(name, &"the daemon ended the stream"))?;
        let Some(picture) = Picture::read(view)? else {
            return Err(Error::Failed(format!(
                "service {name} was removed meanwhile"
            )));
        };
        if picture.service.meta.version < service.meta.version {
            continue;
        }
        screen.show(&picture);
        let verdict = picture.verdict();
        match verdict {
            Verdict::Moving => steady = None,
            Verdict::Steady | Verdict::Ended => match &mut steady {
                Some((_, held, shown)) if *held == verdict => *shown = picture,
                Some(_) | None => {
                    if verdict == Verdict::Steady {
                        screen.verify(monitor);
                    }
                    steady = Some((Instant::now(), verdict, picture));
                }
            },
            Verdict::Done | Verdict::Paused | Verdict::RolledBack => {
                return end(verdict, &picture, waiting, screen);
            }
        }
    }
}

fn lost(name: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::Failed(format!(
        "lost sight of service {name}, which goes on as asked for: {reason}; use `swarmctl service \
         ps {name}` to check progress"
    ))
}

/// What a verdict means for whoever waits.
fn end(
    verdict: Verdict,
    picture: &Picture,
    waiting: Waiting,
    screen: &mut Screen,
) -> Result<(), Error> {
    let name = &picture.service.spec.name;
    match verdict {
        Verdict::Moving | Verdict::Steady | Verdict::Done => {
            screen.say(&format!("verify: Service {name} converged"));
            Ok(())
        }
        Verdict::Ended if picture.ended_well() => {
            let (ended, desired) = (picture.ended(), picture.desired);
            screen.say(&format!(
                "{ended} of {desired} tasks of service {name} have completed"
            ));
            Ok(())
        }
        Verdict::Ended => {
            let reason = picture
                .reasons()
                .first()
                .map_or("", |(_, reason)| reason)
                .to_owned();
            Err(Error::Failed(format!(
                "{} of {} tasks of service {name} ended and will not be restarted: {reason}",
                picture.ended(),
                picture.desired
            )))
        }
        Verdict::Paused => {
            let what = match waiting {
                Waiting::Update => "update",
                Waiting::Rollback => "rollback",
            };
            Err(Error::Failed(format!(
                "service {what} paused: {}",
                picture.update_message()
            )))
        }
        Verdict::RolledBack => match waiting {
            Waiting::Rollback => {
                screen.say(&format!(
                    "rollback: Service {name} is back at its previous spec"
                ));
                Ok(())
            }
            Waiting::Update => Err(Error::Failed(format!(
                "service rolled back: {}",
                picture.update_message()
            ))),
        },
    }
}

/// Where progress is shown: redrawn on a terminal, line by line elsewhere.
struct Screen {
    kind: ScreenKind,
    /// Lines to go up before drawing again.
    drawn: usize,
    /// What was told last, to tell only news.
    told: Vec<String>,
}

#[derive(PartialEq, Eq)]
enum ScreenKind {
    Silent,
    Plain,
    Terminal,
}

impl Screen {
    fn new(quiet: bool) -> Self {
        let kind = if quiet {
            ScreenKind::Silent
        } else if std::io::stderr().is_terminal() {
            ScreenKind::Terminal
        } else {
            ScreenKind::Plain
        };
        Self {
            kind,
            drawn: 0,
            told: vec![],
        }
    }

    fn show(&mut self, picture: &Picture) {
        match self.kind {
            ScreenKind::Silent => {}
            ScreenKind::Plain => self.tell(summary(picture)),
            ScreenKind::Terminal => {
                let mut lines = summary(picture);
                if picture.slots.len() <= SLOTS_SHOWN_MAX && picture.desired <= SLOTS_SHOWN_MAX {
                    lines.truncate(1);
                    lines.extend(slots(picture));
                }
                self.draw(&lines);
            }
        }
    }

    fn verify(&mut self, monitor: Duration) {
        if !monitor.is_zero() {
            let monitor = go_duration(monitor);
            self.say(&format!(
                "verify: Waiting {monitor} to verify that tasks are stable..."
            ));
        }
    }

    fn say(&mut self, line: &str) {
        if self.kind != ScreenKind::Silent {
            output::note(line);
            self.drawn = 0;
        }
    }

    /// Tells the sum when it changed, and each reason once.
    fn tell(&mut self, lines: Vec<String>) {
        let mut lines = lines.into_iter();
        if let Some(sum) = lines.next() {
            if self.told.first() != Some(&sum) {
                output::note(&sum);
            }
            self.told.splice(..self.told.len().min(1), [sum]);
        }
        for reason in lines {
            if !self.told.contains(&reason) {
                output::note(&reason);
                self.told.push(reason);
            }
        }
    }

    /// Draws over what was drawn before.
    fn draw(&mut self, lines: &[String]) {
        if self.told == lines {
            return;
        }
        let width = terminal_size::terminal_size_of(std::io::stderr())
            .map_or(WIDTH_DEFAULT, |(width, _)| usize::from(width.0));
        let mut out = String::new();
        if self.drawn > 0 {
            out.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in lines {
            // A line that wraps would be two when going up.
            let line: String = line.chars().take(width.saturating_sub(1)).collect();
            out.push_str(&format!("\x1b[2K{line}\n"));
        }
        // Fewer lines than before: clear the rest.
        out.push_str("\x1b[J");
        // Progress that cannot be shown is no reason to fail.
        drop(std::io::stderr().lock().write_all(out.as_bytes()));
        self.drawn = lines.len();
        self.told = lines.to_vec();
    }
}

/// The sum of it, and each reason why tasks are no further.
fn summary(picture: &Picture) -> Vec<String> {
    let what = if picture.rolls_back() {
        "rolling back"
    } else {
        "overall progress"
    };
    let mut lines = vec![format!(
        "{what}: {} out of {} tasks",
        picture.running(),
        picture.desired
    )];
    let reasons = picture.reasons().into_iter().take(3);
    lines.extend(reasons.map(|(_, reason)| format!("  waiting: {reason}")));
    lines
}

/// One line a slot.
fn slots(picture: &Picture) -> Vec<String> {
    let count = picture.desired.max(picture.slots.len());
    let line = |index: usize| {
        let (state, reason) = match picture.slots.get(index) {
            Some(Slot { state, reason, .. }) => (state.as_str(), reason.as_str()),
            None => ("new", ""),
        };
        let line = format!("{}/{count}: {state:<10} {reason}", index + 1);
        line.trim_end().to_owned()
    };
    (0..count).map(line).collect()
}
