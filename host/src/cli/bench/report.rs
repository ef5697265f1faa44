//! What a load has shown, for people and for programs.

use core::fmt::{self, Write};
use core::time::Duration;

use super::error::Error;
use super::load::{Plan, Tally, Workload};

/// What a load has shown.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) plan: Plan,
    pub(super) took: Duration,
    pub(super) tally: Tally,
    /// How long the request that waited longest was without a reply at the end.
    pub(super) oldest_unanswered: Duration,
    pub(super) own_cpu: Duration,
    pub(super) server_cpu: Duration,
    pub(super) server_resident_bytes: u64,
}

impl Report {
    /// One line of JSON, without nesting, so that a script can cut it.
    pub(super) fn json(&self) -> String {
        let mut line = String::from("{");
        self.write_json(&mut line)
            .expect("a string takes any write");
        line.push('}');
        line
    }

    fn write_json(&self, out: &mut String) -> fmt::Result {
        let Plan {
            connections,
            outstanding,
            size,
            ..
        } = &self.plan;
        let all = &self.tally.all;
        write!(out, "\"hosts\":{:?},", self.plan.hosts.join(","))?;
        write!(
            out,
            "\"connections\":{connections},\"outstanding\":{outstanding},"
        )?;
        write!(out, "\"mix\":{:?},\"size\":{size},", self.workload())?;
        write!(
            out,
            "\"seconds\":{:.2},\"ops\":{},",
            self.took.as_secs_f64(),
            all.total()
        )?;
        write!(
            out,
            "\"ops_per_s\":{:.0},\"mean_us\":{:.1},",
            self.ops_per_s(),
            all.mean_us()
        )?;
        write!(
            out,
            "\"p50_us\":{:.1},\"p99_us\":{:.1},",
            self.us(0.5),
            self.us(0.99)
        )?;
        write!(
            out,
            "\"p999_us\":{:.1},\"max_us\":{:.1},",
            self.us(0.999),
            all.max_us()
        )?;
        for (operation, own) in &self.tally.by_operation {
            let name = operation.name();
            write!(out, "\"{name}_ops\":{},", own.total())?;
            write!(out, "\"{name}_p50_us\":{:.1},", own.quantile_us(0.5))?;
            write!(out, "\"{name}_p99_us\":{:.1},", own.quantile_us(0.99))?;
        }
        let oldest_us = self.oldest_unanswered.as_secs_f64() * 1e6;
        write!(out, "\"oldest_unanswered_us\":{oldest_us:.1},")?;
        let last = self.tally.refused_last.map_or(0, |code| code.0);
        write!(
            out,
            "\"errors\":{},\"last_error\":{last},",
            self.tally.refused
        )?;
        write!(
            out,
            "\"client_cpu_us_per_op\":{:.2}",
            self.per_op_us(self.own_cpu)
        )?;
        if !self.plan.servers.is_empty() {
            write!(
                out,
                ",\"server_cpu_us_per_op\":{:.2}",
                self.per_op_us(self.server_cpu)
            )?;
            write!(
                out,
                ",\"server_rss_kb\":{}",
                self.server_resident_bytes / 1024
            )?;
        }
        Ok(())
    }

    /// A table for people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text)
            .expect("a string takes any write");
        text.truncate(text.trim_end().len());
        text
    }

    fn write_table(&self, out: &mut String) -> fmt::Result {
        let Plan {
            connections,
            outstanding,
            size,
            ..
        } = &self.plan;
        let all = &self.tally.all;
        writeln!(out, "{} at {}", self.workload(), self.plan.hosts.join(","))?;
        writeln!(out, "{connections} x {outstanding} in flight, {size} B")?;
        let seconds = self.took.as_secs_f64();
        writeln!(
            out,
            "{:>10.0} ops/s ({} in {seconds:.2} s)",
            self.ops_per_s(),
            all.total()
        )?;
        writeln!(
            out,
            "latency in µs      mean       p50       p99     p99.9       max"
        )?;
        let all = core::iter::once(("all", &self.tally.all));
        let own = self
            .tally
            .by_operation
            .iter()
            .map(|(one, own)| (one.name(), own));
        // With a single operation, its row is the row of all.
        for (name, one) in all.chain(own.filter(|_| self.tally.by_operation.len() > 1)) {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| one.quantile_us(q));
            let (mean, max) = (one.mean_us(), one.max_us());
            write!(out, "  {name:<10}{mean:>11.1}{p50:>10.1}{p99:>10.1}")?;
            writeln!(out, "{p999:>10.1}{max:>10.1}")?;
        }
        if !self.plan.servers.is_empty() {
            let mib = self.server_resident_bytes as f64 / 1024.0 / 1024.0;
            let cpu = self.per_op_us(self.server_cpu);
            writeln!(
                out,
                "server: {cpu:.2} µs of CPU per operation, {mib:.1} MiB resident"
            )?;
        }
        let own = self.per_op_us(self.own_cpu);
        writeln!(out, "generator: {own:.2} µs of CPU per operation")?;
        if self.oldest_unanswered > Duration::from_secs(1) {
            let seconds = self.oldest_unanswered.as_secs_f64();
            writeln!(
                out,
                "a request was without a reply for {seconds:.1} s at the end"
            )?;
        }
        Ok(())
    }

    /// Whether the figures count.
    ///
    /// # Errors
    ///
    /// When the server refused requests.
    pub(super) fn verdict(&self) -> Result<(), Error> {
        match self.tally.refused_last {
            None => Ok(()),
            Some(last) => Err(Error::Refused {
                count: self.tally.refused,
                last,
            }),
        }
    }

    fn workload(&self) -> String {
        match &self.plan.workload {
            Workload::Fill { znodes, .. } => format!("fill={znodes}"),
            Workload::Load { mix, .. } => mix.to_string(),
        }
    }

    fn ops_per_s(&self) -> f64 {
        self.tally.all.total() as f64 / self.took.as_secs_f64()
    }

    fn us(&self, q: f64) -> f64 {
        self.tally.all.quantile_us(q)
    }

    fn per_op_us(&self, cpu: Duration) -> f64 {
        match self.tally.all.total() {
            0 => 0.0,
            ops => cpu.as_secs_f64() * 1e6 / ops as f64,
        }
    }
}
