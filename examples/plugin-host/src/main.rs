//! A program with plugins: `plugin-host <directory> <port>`.
//!
//! Every file of the directory is one. What exports `step` is a Zabra server, and is served on the
//! port; the line `trap` on standard input makes it crash. What exports `run` is a command: the line
//! `name number` runs it. None hurts the program or another: not by a crash, not by taking memory,
//! not by never coming back.

mod link;
mod memory;
mod node;
mod sandbox;
mod wire;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, io, thread};

use wasmtime::{Config, Engine, Error, Result};

use node::Node;
use sandbox::Plugin;

const TICK: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut argument = || arguments.next().ok_or(Error::msg("plugin-host <directory> <port>"));
    let (directory, port) = (argument()?, argument()?.parse()?);
    let engine = Engine::new(Config::new().epoch_interruption(true))?;
    let (mut commands, mut server) = (BTreeMap::new(), None);
    for entry in fs::read_dir(directory)? {
        let plugin = Plugin::load(&engine, &entry?.path())?;
        if plugin.exports("step") {
            server = Some(plugin);
        } else {
            commands.insert(plugin.name.clone(), plugin);
        }
    }
    thread::spawn(move || {
        loop {
            thread::sleep(TICK);
            engine.increment_epoch();
        }
    });
    let server = server.ok_or(Error::msg("none of the plugins is a server"))?;
    let (trap, traps) = mpsc::channel();
    let node = Node::bind(port, traps)?;
    thread::spawn(move || {
        let Err(error) = node.serve(&server);
        eprintln!("{} is not served any more: {error:#}", server.name);
    });
    for line in io::stdin().lines() {
        let line = line?;
        let (name, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let run = |plugin: &Plugin| plugin.instantiate()?.call("run", number.parse::<i64>()?);
        match commands.get(name).map(run) {
            Some(Ok::<i64, _>(result)) => println!("{name}: {result}"),
            Some(Err(error)) => eprintln!("{name}: {error:#}"),
            None if name == "trap" => trap.send(())?,
            None => eprintln!("no plugin is called {name}"),
        }
    }
    loop {
        thread::park();
    }
}
