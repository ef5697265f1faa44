//! What a local ensemble is on disk: `ensemble`, and for every server `server.N/zoo.cfg` and
//! `server.N/data/myid`.

use core::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::ports::Ports;

/// Says what a directory was made with, so that the next `up` finds it again.
const FILE: &str = "ensemble";

/// As many as `up` makes at most, of both kinds.
const SERVERS_MAX: u16 = 50;

/// Keys that a local ensemble decides itself.
const OURS: [&str; 6] = [
    "clientPort",
    "clientPortAddress",
    "dataDir",
    "dynamicConfigFile",
    "initLimit",
    "syncLimit",
];

/// How many servers, and where they listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) servers: u16,
    pub(super) observers: u16,
    pub(super) ports: Ports,
}

/// An ensemble's directory.
pub(super) struct Layout {
    directory: PathBuf,
    pub(super) shape: Shape,
}

/// What a zoo.cfg has beside the ensemble itself.
pub(super) struct Settings {
    pub(super) tick_ms: u32,
    /// Keys and values.
    pub(super) extras: Vec<(String, String)>,
}

impl Layout {
    pub(super) const fn new(directory: PathBuf, shape: Shape) -> Self {
        Self { directory, shape }
    }

    /// A server's own directory.
    pub(super) fn home(&self, server: u16) -> PathBuf {
        self.directory.join(format!("server.{server}"))
    }

    pub(super) fn config(&self, server: u16) -> PathBuf {
        self.home(server).join("zoo.cfg")
    }

    pub(super) fn log(&self, server: u16) -> PathBuf {
        self.home(server).join("zabra.log")
    }

    /// All servers, voters first.
    pub(super) fn servers(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.shape.servers + self.shape.observers
    }

    pub(super) const fn observes(&self, server: u16) -> bool {
        server > self.shape.servers
    }

    /// Writes what the servers are started with. Data that is there stays.
    pub(super) fn write(&self, settings: &Settings) -> Result<(), String> {
        let path = self.directory.join(FILE);
        write(&path, &self.shape.to_text())?;
        for server in self.servers() {
            let data = self.home(server).join("data");
            fs::create_dir_all(&data).map_err(|error| about(&data, &error))?;
            write(&data.join("myid"), &format!("{server}\n"))?;
            let config = self.config(server);
            // Once a membership has been reconfigured it is in a file that the server has written,
            // and this one only names it.
            let dynamic = fs::read_to_string(&config).ok().and_then(|text| {
                let mut lines = text.lines();
                let line = lines.find(|line| line.starts_with("dynamicConfigFile="));
                line.map(str::to_owned)
            });
            write(&config, &self.zoo_cfg(server, settings, dynamic.as_deref()))?;
        }
        Ok(())
    }

    fn zoo_cfg(&self, server: u16, settings: &Settings, dynamic: Option<&str>) -> String {
        let mut text = format!(
            "# Written by `zabra ensemble up`, anew each time.\n\
             dataDir={}\n\
             tickTime={}\n\
             initLimit=10\n\
             syncLimit=5\n",
            // A backslash begins an escape in Java's properties.
            self.home(server)
                .join("data")
                .display()
                .to_string()
                .replace('\\', "\\\\"),
            settings.tick_ms,
        );
        let set = |key: &str| settings.extras.iter().any(|(name, _)| name == key);
        if !set("4lw.commands.whitelist") {
            text += "4lw.commands.whitelist=*\n";
        }
        for (key, value) in &settings.extras {
            let _infallible = writeln!(text, "{key}={value}");
        }
        let ports = self.shape.ports;
        if self.shape.servers == 1 && self.shape.observers == 0 {
            let port = ports.client(server);
            let _infallible = writeln!(text, "clientPort={port}\nclientPortAddress=127.0.0.1");
            return text;
        }
        if let Some(line) = dynamic {
            let _infallible = writeln!(text, "{line}");
            return text;
        }
        if self.observes(server) {
            text += "peerType=observer\n";
        }
        for server in self.servers() {
            let role = if self.observes(server) {
                "observer"
            } else {
                "participant"
            };
            let _infallible = writeln!(
                text,
                "server.{server}=127.0.0.1:{}:{}:{role};127.0.0.1:{}",
                ports.quorum(server),
                ports.election(server),
                ports.client(server),
            );
        }
        text
    }
}

impl Shape {
    /// What the directory was made with, if an ensemble is there.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, String> {
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(about(&path, &error)),
        };
        let shape = Self::parse(&text).ok_or_else(|| {
            format!(
                "{}: expected lines servers=N, observers=N and base-port=N as `zabra ensemble up` \
                 writes them",
                path.display()
            )
        })?;
        Ok(Some(shape))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| -> Option<u16> {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            value.parse().ok()
        };
        let (servers, observers) = (value("servers")?, value("observers")?);
        let all = servers.checked_add(observers)?;
        if servers == 0 || all > SERVERS_MAX {
            return None;
        }
        Some(Self {
            servers,
            observers,
            ports: Ports::at(value("base-port")?, all).ok()?,
        })
    }

    fn to_text(self) -> String {
        format!(
            "servers={}\nobservers={}\nbase-port={}\n",
            self.servers, self.observers, self.ports.base
        )
    }
}

/// Reads `KEY=VALUE` as it goes into every zoo.cfg.
pub(super) fn extra(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("expected KEY=VALUE for every zoo.cfg, found {text:?}");
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    let key = key.trim();
    if key.is_empty() || text.contains(['\n', '\r']) {
        return Err(wrong());
    }
    if OURS.contains(&key) || key.starts_with("server.") {
        return Err(format!(
            "{key} is decided by `zabra ensemble up` itself for every server"
        ));
    }
    if key == "tickTime" {
        return Err("expected --tick-time, found tickTime".to_owned());
    }
    Ok((key.to_owned(), value.trim().to_owned()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| about(path, &error))
}

/// An error with its path.
pub(super) fn about(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(servers: u16, observers: u16) -> Layout {
        let ports = Ports::at(2181, servers + observers).expect("there is room");
        let shape = Shape {
            servers,
            observers,
            ports,
        };
        Layout::new(PathBuf::from("/e"), shape)
    }

    const fn plain() -> Settings {
        Settings {
            tick_ms: 200,
            extras: Vec::new(),
        }
    }

    #[test]
    fn every_server_knows_all_and_observers_say_so() {
        let text = layout(1, 1).zoo_cfg(2, &plain(), None);
        let expected = "# Written by `zabra ensemble up`, anew each time.\n\
            dataDir=/e/server.2/data\ntickTime=200\ninitLimit=10\nsyncLimit=5\n\
            4lw.commands.whitelist=*\npeerType=observer\n\
            server.1=127.0.0.1:2183:2185:participant;127.0.0.1:2181\n\
            server.2=127.0.0.1:2184:2186:observer;127.0.0.1:2182\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn one_server_stands_alone() {
        let text = layout(1, 0).zoo_cfg(1, &plain(), None);
        assert!(text.contains("clientPort=2181\n") && !text.contains("server.1="));
    }

    #[test]
    fn reconfigured_membership_stays() {
        let line = "dynamicConfigFile=/e/server.1/zoo.cfg.dynamic.100000003";
        let text = layout(3, 0).zoo_cfg(1, &plain(), Some(line));
        assert!(text.ends_with(&format!("{line}\n")) && !text.contains("server.2="));
    }

    #[test]
    fn extras_win_over_what_is_only_convenient() {
        let settings = Settings {
            tick_ms: 200,
            extras: vec![extra("4lw.commands.whitelist=srvr").expect("right")],
        };
        let text = layout(3, 0).zoo_cfg(1, &settings, None);
        assert_eq!(text.matches("4lw").count(), 1, "{text}");
        for text in [
            "x",
            "=1",
            "dataDir=/x",
            "server.1=a",
            "tickTime=1",
            "a=b\nc=d",
        ] {
            assert!(extra(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shape_is_read_as_it_was_written() {
        let shape = layout(3, 2).shape;
        assert_eq!(Shape::parse(&shape.to_text()), Some(shape));
        assert_eq!(Shape::parse("servers=0\nobservers=0\nbase-port=1\n"), None);
    }
}
