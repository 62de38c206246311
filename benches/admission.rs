//! B2: CPU time of a full review through TLS on one core, beside two floors: the usual typed parse, and no parse at all.
//! Starts itself once for each mode and speaks to these children on connections that stay open.

mod client;
mod mix;
mod process;
mod results;
mod server;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, json};

use client::{Request, Target};
use server::Mode;

/// Reviews before the measurement begins: allocator and caches are warm then, as in a running webhook.
const WARM_UP: usize = 4_000;

/// Reviews in one round.
const REVIEWS: usize = 20_000;

/// Rounds of each mode, in turn, so that a noisy moment of the machine meets all of them.
const ROUNDS: usize = 3;

#[derive(Debug, Parser)]
struct Options {
    /// Serve in this mode instead of measuring
    #[arg(long, value_enum)]
    serve: Option<Mode>,

    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    match Options::parse().serve {
        Some(mode) => server::run(mode),
        None => measure(),
    }
}

fn measure() -> anyhow::Result<()> {
    let mut modes = Mode::value_variants()
        .iter()
        .map(|mode| Measured::start(*mode))
        .collect::<Result<Vec<_>, _>>()?;
    for mode in &modes {
        mode.target.load(&mode.requests, WARM_UP)?;
    }
    for _ in 0..ROUNDS {
        modes.iter_mut().try_for_each(Measured::round)?;
    }
    let mut measured = Map::new();
    for mode in &modes {
        let cpu = process::median(&mode.cpu)?;
        let wall = process::median(&mode.wall)?;
        let resident = process::resident_megabytes(mode.server.id())?;
        println!(
            "{}: {cpu:.1} µs of CPU a review, {wall:.1} µs of time, {resident:.1} MB",
            mode.name
        );
        measured.insert(
            mode.name.clone(),
            json!({"cpuMicroseconds": cpu, "rounds": mode.cpu, "wallMicroseconds": wall, "residentMegabytes": resident}),
        );
    }
    results::write("admission.json", &json!(measured))
}

/// One mode: its server, what is sent to it and what was measured, in microseconds for one review.
struct Measured {
    name: String,
    server: Child,
    target: Target,
    requests: Vec<Request>,
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

#[derive(Deserialize)]
struct Announcement {
    port: u16,
    certificate: String,
}

impl Measured {
    fn start(mode: Mode) -> anyhow::Result<Self> {
        let value = mode.to_possible_value().context("a mode has a name")?;
        let name = value.get_name().to_owned();
        let mut server = Command::new(std::env::current_exe()?)
            .args(["--serve", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("the server prints")?).read_line(&mut line)?;
        let announced: Announcement =
            serde_json::from_str(&line).with_context(|| format!("{name} does not serve"))?;
        let request = |it: &mix::Review| match mode {
            Mode::Evaluate => Request::new(&format!("/validate/{}", server::TOKEN), it.kind, &it.body),
            Mode::ParseOnly | Mode::AllowAll => Request::new(&format!("/{}", it.kind), it.kind, &it.body),
        };
        Ok(Self {
            name,
            server,
            target: Target::new(announced.port, &announced.certificate)?,
            requests: mix::reviews()?.iter().map(request).collect(),
            cpu: Vec::new(),
            wall: Vec::new(),
        })
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let before = process::cpu_time(self.server.id())?;
        let wall = self.target.load(&self.requests, REVIEWS)?;
        let cpu = process::cpu_time(self.server.id())? - before;
        let each = |it: Duration| it.as_secs_f64() * 1e6 / REVIEWS as f64;
        self.cpu.push(each(cpu));
        self.wall.push(each(wall));
        Ok(())
    }
}
