//! How a server is set up: `conf`, `dirs`, `envi`.
//!
//! Source: `ZooKeeperServerConf.toString`, `EnviCommand`, `DirsCommand`.

use alloc::format;
use alloc::string::String;

use crate::server::{HostFacts, Server};

impl Server {
    pub(super) fn conf(&self, facts: &HostFacts) -> String {
        let config = &self.core.config;
        let host = &config.host;
        // The port for TLS is -1 where there is none; a standalone server has no number of its own.
        let me = self.core.ensemble.as_deref().map_or(0, |it| it.me.0);
        let secure = config.secure.as_ref().map_or(0, |secure| secure.port);
        let secure = if secure == 0 { -1 } else { i32::from(secure) };
        let text = format!(
            "clientPort={}\n\
             secureClientPort={secure}\n\
             dataDir={}\n\
             dataDirSize={}\n\
             dataLogDir={}\n\
             dataLogSize={}\n\
             tickTime={}\n\
             maxClientCnxns={}\n\
             minSessionTimeout={}\n\
             maxSessionTimeout={}\n\
             clientPortListenBacklog={}\n\
             serverId={me}\n",
            host.client_port,
            host.data_dir,
            facts.data_dir_bytes,
            host.data_log_dir,
            facts.log_dir_bytes,
            config.tick_ms,
            config.connections_per_address_max,
            config.session_timeout_ms_min,
            config.session_timeout_ms_max,
            host.listen_backlog,
        );
        text + &self.core.quorum_conf()
    }

    pub(super) fn envi(&self, facts: &HostFacts) -> String {
        let mut text = String::from("Environment:\n");
        for (key, value) in &self.core.config.host.environment {
            // The others stay as they are while a process lives.
            if key.ends_with("memory.total") && facts.memory_bytes > 0 {
                text += &format!("{key}={}MB\n", facts.memory_bytes >> 20);
            } else {
                text += &format!("{key}={value}\n");
            }
        }
        text
    }
}

pub(super) fn dirs(facts: &HostFacts) -> String {
    format!(
        "datadir_size: {}\nlogdir_size: {}\n",
        facts.data_dir_bytes, facts.log_dir_bytes
    )
}
