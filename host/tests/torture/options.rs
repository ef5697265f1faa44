//! What a run is asked to do.

use core::hash::BuildHasher as _;
use core::time::Duration;
use std::hash::RandomState;

const SERVERS_MIN: u32 = 3;
const SERVERS_MAX: u32 = 9;
const OBSERVERS_MAX: u32 = 4;
const MINUTES_MAX: u64 = 24 * 60;
/// For starting, waiting and checking, on a slow machine.
const OVERHEAD_MIN: Duration = Duration::from_secs(8 * 60);

/// What `--help` prints.
pub(crate) const HELP: &str = "\
cargo xtask torture [--seconds N | --minutes N] [--servers N] [--observers N] [--seed N]
                    [--only minority|episodes] [--fault NAME]

  --seconds, --minutes   for how long faults are injected; 110 seconds
  --servers              voters, 3 to 9; 3
  --observers            up to 4; 1
  --seed                 of a run that is to be repeated
  --only                 one part: the cuts of docs/consistency.md, or the faults under load
  --fault                one kind of fault only, one at a time, by its name in the report";

/// One of the parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Minority,
    Episodes,
}

/// The options.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// For how long faults are injected.
    pub(crate) time: Duration,
    /// Those with a vote, when an episode begins.
    pub(crate) servers: u32,
    /// Those without.
    pub(crate) observers: u32,
    pub(crate) seed: u64,
    /// Only that.
    pub(crate) part: Option<Part>,
    /// Only this kind of fault, as it is called in the report.
    pub(crate) fault: Option<String>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            time: Duration::from_secs(110),
            servers: SERVERS_MIN,
            observers: 1,
            seed: RandomState::new().hash_one(0_u8) >> 32,
            part: None,
            fault: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            let number = || -> Result<u64, String> {
                let wrong = |_| format!("{name}: expected a whole number, found {value:?}");
                value.parse::<u64>().map_err(wrong)
            };
            match name.as_str() {
                "--seconds" => options.time = Duration::from_secs(number()?),
                "--minutes" => options.time = Duration::from_secs(60 * number()?.min(MINUTES_MAX)),
                "--seed" => options.seed = number()?,
                "--servers" => {
                    let servers = u32::try_from(number()?).unwrap_or(u32::MAX);
                    options.servers = servers.clamp(SERVERS_MIN, SERVERS_MAX);
                }
                "--observers" => {
                    let observers = u32::try_from(number()?).unwrap_or(u32::MAX);
                    options.observers = observers.min(OBSERVERS_MAX);
                }
                "--fault" => options.fault = Some(value),
                "--only" => {
                    options.part = Some(match value.as_str() {
                        "minority" => Part::Minority,
                        "episodes" => Part::Episodes,
                        _ => return Err(format!("--only minority or episodes, found {value:?}")),
                    });
                }
                _ => return Err(format!("unknown option {name:?}")),
            }
        }
        Ok(options)
    }

    /// After it the run has failed.
    pub(crate) fn time_max(&self) -> Duration {
        self.time * 2 + OVERHEAD_MIN
    }
}
