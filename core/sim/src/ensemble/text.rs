//! Scripts as text: printed when a seed fails, kept as scenarios, read back.
//!
//! One statement a line, `#` begins a comment. What is not said is as in [`Script::new`] of seed 0
//! without faults.
//!
//! ```text
//! seed 7
//! voters 3
//! tick 100ms
//! at 1200ms kill A for 300ms
//! on B stores:current 2 power B C for 1s
//! on any sends:NEWLEADER 1 partition A|B C for 500ms
//! on any stores:append 20 power @ for 1s     # who has just stored it
//! at 2s isolate ^ for 1500ms                 # who leads
//! at 3s reconfig +D ~B -A                    # D votes, B observes, A leaves
//! at 4s half-close A B for 1s                # B hears of the end a second later
//! at 5s disk-full A 3 for 1s                 # after three operations more; or disk-fails
//! at 5s disk-low A for 1s                    # nearly full, and it is told in time
//! at 6s rot A 77                             # bit number 77, so to speak
//! trial idle                                 # what is tried in the end
//! ```

use core::fmt;

use crate::ensemble::members::Change;
use crate::ensemble::plan::{
    ACTOR, Cast, DURABLES, Effect, Fault, LEADER, PACKETS, Planned, SERVERS_MAX, Script, When,
    letter,
};
use crate::ensemble::trials::Trial;

/// Reads a script.
///
/// # Errors
/// Which line is not understood, and why.
pub fn parse(text: &str) -> Result<Script, String> {
    let seed = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("seed "))
        .map_or(Ok(0), |seed| seed.trim().parse::<u64>())
        .map_err(|error| format!("seed: {error}"))?;
    let mut script = Script::without_plot(seed);
    script.faults.clear();
    script.cast = Cast::Service;
    script.trial = Trial::None;
    script.voters = 3;
    script.observers = 0;
    script.spares = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        statement(&mut script, &words).map_err(|why| format!("line {}: {why}", index + 1))?;
    }
    let is_possible = (1..=SERVERS_MAX).contains(&script.servers()) && script.voters > 0;
    if is_possible {
        Ok(script)
    } else {
        Err(format!("{} servers", script.servers()))
    }
}

fn statement(script: &mut Script, words: &[&str]) -> Result<(), String> {
    let base = &mut script.base;
    match words {
        [] | ["seed", _] => {}
        ["cast", "drill"] => script.cast = Cast::Drill,
        ["cast", "service"] => script.cast = Cast::Service,
        ["voters", count] => script.voters = number(count)?,
        ["observers", count] => script.observers = number(count)?,
        ["spares", count] => script.spares = number(count)?,
        ["clients", count] => base.clients = number(count)?,
        ["acts", count] => base.acts = number(count)?,
        ["burst", count] => base.burst = number(count)?,
        ["disruptions", count] => base.disruptions = number(count)?,
        ["duration", time] => base.duration_us = micros(time)?,
        ["pace", time] => base.pace_us = micros(time)?,
        ["latency", time] => base.latency_us = micros(time)?,
        ["sync", time] => base.sync_us = micros(time)?,
        ["tick", time] => base.tick_ms = millis(time)?,
        ["reap", time] => base.reap_ms = millis(time)?,
        ["limits", init, sync] => {
            script.init_limit = number(init)?;
            script.sync_limit = number(sync)?;
        }
        ["snapshots", txns] => base.snapshot_txns = number(txns)?,
        ["slices", bytes] => base.slice_bytes = number(bytes)?,
        ["outstanding", count] => base.outstanding_max = number(count)?,
        ["history", txns] => script.history_txns = number(txns)?,
        ["trial", name] => script.trial = Trial::parse(name)?,
        ["drift", ppm] => script.drift_ppm = number(ppm)?,
        ["preallocate", bytes] => base.preallocate_bytes = number(bytes)?,
        ["logfile", bytes] => base.log_file_bytes = number(bytes)?,
        ["extended", is_on] => base.extended_types = *is_on == "yes",
        ["digest", is_on] => base.tree_digest = *is_on == "yes",
        ["weights", weights @ ..] => {
            for (slot, weight) in base.weights.iter_mut().zip(weights) {
                *slot = number(weight)?;
            }
        }
        ["at", time, fault @ ..] => {
            let when = When::At(micros(time)?);
            script.faults.push(planned(when, fault)?);
        }
        ["on", server, effect, count, fault @ ..] => {
            let when = When::On {
                server: match *server {
                    "any" => None,
                    name => Some(self::server(name)?),
                },
                effect: parse_effect(effect)?,
                count: number(count)?,
            };
            script.faults.push(planned(when, fault)?);
        }
        [word, ..] => return Err(format!("unknown statement {word}")),
    }
    Ok(())
}

fn planned(when: When, words: &[&str]) -> Result<Planned, String> {
    let (words, for_us) = match words {
        [words @ .., "for", time] => (words, micros(time)?),
        _ => (words, 0),
    };
    let servers = |names: &[&str]| names.iter().map(|name| server(name)).collect();
    let fault = match words {
        ["kill", names @ ..] => Fault::Kill(servers(names)?),
        ["power", names @ ..] => Fault::Power(servers(names)?),
        ["power-in-store", name, count] => Fault::PowerInStore(server(name)?, number(count)?),
        ["kill-in-store", name, count] => Fault::KillInStore(server(name)?, number(count)?),
        ["amnesia", name] => Fault::Amnesia(server(name)?),
        ["pause", name] => Fault::Pause(server(name)?),
        ["slow-disk", name] => Fault::SlowDisk(server(name)?),
        ["clock", name, ms] => Fault::ClockJump(server(name)?, number(ms)?),
        ["snapshot-fails", name] => Fault::SnapshotFails(server(name)?),
        ["isolate", name] => Fault::Isolate(server(name)?),
        ["block", from, to] => Fault::Block(server(from)?, server(to)?),
        ["partition", rest @ ..] => {
            let joined = rest.join(" ");
            let groups = joined.split('|').map(|group| {
                let names: Vec<&str> = group.split_whitespace().collect();
                servers(&names)
            });
            Fault::Partition(groups.collect::<Result<_, _>>()?)
        }
        ["reset", one, other] => Fault::Reset(server(one)?, server(other)?),
        ["slow-links", name, time] => Fault::SlowLinks(server(name)?, micros(time)?),
        ["drop-clients", name] => Fault::DropClients(server(name)?),
        ["reconfig", words @ ..] => {
            let (words, version) = match words {
                [words @ .., "version", version] => (words, Some(number(version)?)),
                _ => (words, None),
            };
            let changes = words.iter().map(|word| change(word));
            Fault::Reconfig(changes.collect::<Result<_, _>>()?, version)
        }
        ["half-close", near, far] => Fault::HalfClose(server(near)?, server(far)?),
        ["disk-full", name, count] => Fault::DiskFull(server(name)?, number(count)?),
        ["disk-fails", name, count] => Fault::DiskFails(server(name)?, number(count)?),
        ["disk-low", name] => Fault::DiskLow(server(name)?),
        ["stall-disk", name] => Fault::StallDisk(server(name)?),
        ["rot", name, place] => Fault::Rot(server(name)?, number(place)?),
        _ => return Err(format!("unknown fault {}", words.join(" "))),
    };
    Ok(Planned {
        when,
        fault,
        for_us,
    })
}

fn parse_effect(word: &str) -> Result<Effect, String> {
    let durable = |name: &str| {
        let found = DURABLES.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, durable)| *durable)
            .ok_or_else(|| format!("nothing durable is called {name}"))
    };
    let packet = |name: &str| {
        let found = PACKETS.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("no packet is called {name}"))
    };
    Ok(match word.split_once(':') {
        Some(("asks", name)) => Effect::Asks(durable(name)?),
        Some(("stores", name)) => Effect::Stores(durable(name)?),
        Some(("sends", name)) => Effect::Sends(packet(name)?),
        Some(("receives", name)) => Effect::Receives(packet(name)?),
        None if word == "leads" => Effect::Leads,
        None if word == "resigns" => Effect::Resigns,
        None if word == "starts" => Effect::Starts,
        _ => return Err(format!("unknown effect {word}")),
    })
}

fn server(name: &str) -> Result<usize, String> {
    match name.as_bytes() {
        [letter @ b'A'..=b'Z'] => Ok(usize::from(letter - b'A')),
        b"@" => Ok(ACTOR),
        b"^" => Ok(LEADER),
        _ => Err(format!("expected the letter of a server, found {name}")),
    }
}

fn change(word: &str) -> Result<Change, String> {
    let sign = word.get(..1).unwrap_or_default();
    let server = server(word.get(1..).unwrap_or_default())?;
    match sign {
        "+" => Ok(Change::Vote(server)),
        "~" => Ok(Change::Observe(server)),
        "-" => Ok(Change::Remove(server)),
        _ => Err(format!("expected +, ~ or - and a server, found {word}")),
    }
}

fn number<T: core::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("not a number: {word}"))
}

fn micros(word: &str) -> Result<u64, String> {
    let (digits, factor) = if let Some(digits) = word.strip_suffix("us") {
        (digits, 1)
    } else if let Some(digits) = word.strip_suffix("ms") {
        (digits, 1000)
    } else if let Some(digits) = word.strip_suffix('s') {
        (digits, 1_000_000)
    } else {
        return Err(format!("expected a time in us, ms or s, found {word}"));
    };
    Ok(number::<u64>(digits)? * factor)
}

fn millis(word: &str) -> Result<u32, String> {
    u32::try_from(micros(word)? / 1000).map_err(|_| format!("too long: {word}"))
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = &self.base;
        let yes = |is_on: bool| if is_on { "yes" } else { "no" };
        writeln!(f, "seed {}", base.seed)?;
        let cast = match self.cast {
            Cast::Drill => "drill",
            Cast::Service => "service",
        };
        writeln!(f, "cast {cast}")?;
        writeln!(f, "voters {}", self.voters)?;
        writeln!(f, "observers {}", self.observers)?;
        writeln!(f, "spares {}", self.spares)?;
        writeln!(f, "clients {}", base.clients)?;
        writeln!(f, "acts {}", base.acts)?;
        writeln!(f, "burst {}", base.burst)?;
        writeln!(f, "disruptions {}", base.disruptions)?;
        writeln!(f, "duration {}us", base.duration_us)?;
        writeln!(f, "pace {}us", base.pace_us)?;
        writeln!(f, "latency {}us", base.latency_us)?;
        writeln!(f, "sync {}us", base.sync_us)?;
        writeln!(f, "tick {}ms", base.tick_ms)?;
        writeln!(f, "reap {}ms", base.reap_ms)?;
        writeln!(f, "limits {} {}", self.init_limit, self.sync_limit)?;
        writeln!(f, "snapshots {}", base.snapshot_txns)?;
        writeln!(f, "slices {}", base.slice_bytes)?;
        writeln!(f, "outstanding {}", base.outstanding_max)?;
        writeln!(f, "history {}", self.history_txns)?;
        writeln!(f, "drift {}", self.drift_ppm)?;
        writeln!(f, "trial {}", self.trial)?;
        writeln!(f, "preallocate {}", base.preallocate_bytes)?;
        writeln!(f, "logfile {}", base.log_file_bytes)?;
        writeln!(f, "extended {}", yes(base.extended_types))?;
        writeln!(f, "digest {}", yes(base.tree_digest))?;
        write!(f, "weights")?;
        for weight in &base.weights {
            write!(f, " {weight}")?;
        }
        writeln!(f)?;
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::At(us) => write!(f, "at {us}us")?,
            When::On {
                server,
                effect,
                count,
            } => {
                let name = server.map_or_else(|| "any".to_owned(), |it| letter(it).to_string());
                write!(f, "on {name} {effect} {count}")?;
            }
        }
        write!(f, " {}", self.fault)?;
        if self.for_us > 0 {
            write!(f, " for {}us", self.for_us)?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |servers: &[usize]| {
            let letters: Vec<String> = servers.iter().map(|it| letter(*it).to_string()).collect();
            letters.join(" ")
        };
        match self {
            Self::Kill(servers) => write!(f, "kill {}", names(servers)),
            Self::Power(servers) => write!(f, "power {}", names(servers)),
            Self::PowerInStore(one, count) => write!(f, "power-in-store {} {count}", letter(*one)),
            Self::KillInStore(one, count) => write!(f, "kill-in-store {} {count}", letter(*one)),
            Self::Amnesia(one) => write!(f, "amnesia {}", letter(*one)),
            Self::Pause(one) => write!(f, "pause {}", letter(*one)),
            Self::SlowDisk(one) => write!(f, "slow-disk {}", letter(*one)),
            Self::ClockJump(one, ms) => write!(f, "clock {} {ms}", letter(*one)),
            Self::SnapshotFails(one) => write!(f, "snapshot-fails {}", letter(*one)),
            Self::Isolate(one) => write!(f, "isolate {}", letter(*one)),
            Self::Block(from, to) => write!(f, "block {} {}", letter(*from), letter(*to)),
            Self::Partition(groups) => {
                let groups: Vec<String> = groups.iter().map(|group| names(group)).collect();
                write!(f, "partition {}", groups.join(" | "))
            }
            Self::Reset(one, other) => write!(f, "reset {} {}", letter(*one), letter(*other)),
            Self::SlowLinks(one, us) => write!(f, "slow-links {} {us}us", letter(*one)),
            Self::DropClients(one) => write!(f, "drop-clients {}", letter(*one)),
            Self::Reconfig(changes, version) => {
                write!(f, "reconfig")?;
                for change in changes {
                    write!(f, " {change}")?;
                }
                version.map_or(Ok(()), |version| write!(f, " version {version}"))
            }
            Self::HalfClose(near, far) => {
                write!(f, "half-close {} {}", letter(*near), letter(*far))
            }
            Self::DiskFull(one, count) => write!(f, "disk-full {} {count}", letter(*one)),
            Self::DiskFails(one, count) => write!(f, "disk-fails {} {count}", letter(*one)),
            Self::DiskLow(one) => write!(f, "disk-low {}", letter(*one)),
            Self::StallDisk(one) => write!(f, "stall-disk {}", letter(*one)),
            Self::Rot(one, place) => write!(f, "rot {} {place}", letter(*one)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::ensemble::plan::Script;

    #[test]
    fn a_script_reads_as_it_was_written() {
        for seed in 0..300 {
            let script = Script::new(seed);
            assert_eq!(parse(&script.to_string()), Ok(script), "seed {seed}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named_by_its_line() {
        let found = parse("voters 3\nat 3ms explode A");
        assert_eq!(found, Err("line 2: unknown fault explode A".to_owned()));
        assert!(parse("voters 0").is_err());
    }
}
