//! What it costs to run `true`: spawned, as isolated processes layer by layer, and as Pods of Jobs.
//!
//! Owns: the ways to run it, and their comparison. Does not own: how each is carried out (`direct`, `load`).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stint_runtime::LeftOut;

use crate::cpu::{CpuGroup, PodGroups};
use crate::direct::{ALL, Direct, Layers};
use crate::load::{Loaded, Used};
use crate::report::{Table, head, median};

/// How much is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rounds; each runs every row once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Processes or Pods of each row of a round
    #[arg(long, default_value_t = 1_000)]
    count: usize,
    /// Processes at once, where nothing else decides that
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Pods at once in a cluster
    #[arg(long, default_value_t = 200)]
    parallelism: usize,
    /// Leave Jobs out
    #[arg(long)]
    no_jobs: bool,
    /// Shims out of this binary instead of the agent's, to try a change without building that
    #[arg(long)]
    own_shim: bool,
    /// Of the processes without a queue only those rows whose names have this in them, and the isolated ones
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// One way to run it.
struct Way {
    name: &'static str,
    carrier: Carrier,
    rates: Vec<f64>,
    cpu_ms: Vec<f64>,
    parts: Vec<Used>,
}

enum Carrier {
    /// By so many threads, one after the other.
    Spawn(usize),
    Runtime {
        direct: Box<Direct>,
        command: &'static [&'static str],
    },
    Job(Box<Loaded>),
}

/// In the name of the row that the others are compared with.
const ISOLATED: &str = "isolated, no queue";
const TRUE: &[&str] = &["/bin/true"];

/// Measures and prints.
pub async fn measure(options: &Options) {
    head("`true`, by what carries it");
    let group = CpuGroup::new("direct");
    let mut ways = ways(options, group.as_ref()).await;
    let mut pods = PodGroups::default();
    for way in &mut ways {
        if let Carrier::Runtime { direct, .. } = &mut way.carrier {
            let sleeping = direct.start(&["/bin/sleep", "1000"]).await;
            let found = PodGroups::find(&[std::process::id()]);
            pods.add(found);
            sleeping.kill().await;
            sleeping.wait().await;
            sleeping.release().await;
        }
    }
    for _ in 0..options.rounds {
        for way in &mut ways {
            way.round(options, group.as_ref(), &pods).await;
        }
    }
    print(&ways, options);
    for way in ways {
        if let Carrier::Job(loaded) = way.carrier {
            loaded.end();
        }
    }
    pods.remove();
}

async fn ways(options: &Options, group: Option<&CpuGroup>) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut add = |name, carrier| {
        ways.push(Way { name, carrier, rates: Vec::new(), cpu_ms: Vec::new(), parts: Vec::new() });
    };
    add("posix_spawn, 1 thread", Carrier::Spawn(1));
    add("posix_spawn, 2 threads", Carrier::Spawn(2));
    let nothing = Layers {
        pid_namespace: false,
        control_groups: false,
        left_out: LeftOut { view: true, identity: true, filter: true },
    };
    let namespace = Layers { pid_namespace: true, ..nothing };
    let view = Layers { left_out: LeftOut { view: false, ..namespace.left_out }, ..namespace };
    let identity = Layers { left_out: LeftOut { identity: false, ..view.left_out }, ..view };
    let filter = Layers { left_out: LeftOut::default(), ..identity };
    let layers: [(_, Layers, &'static [&'static str]); 7] = [
        ("shim alone", nothing, TRUE),
        ("+ PID namespace", namespace, TRUE),
        ("+ mounts, /proc, /dev, /tmp, IPC, host name", view, TRUE),
        ("+ user, capabilities", identity, TRUE),
        ("+ filter of system calls", filter, TRUE),
        ("+ control groups = isolated, no queue", ALL, TRUE),
        ("+ a line of output, kept on the disk", ALL, &["/bin/echo", "done"]),
    ];
    for (name, layers, command) in layers {
        if !name.contains(&options.only) && !name.contains(ISOLATED) {
            continue;
        }
        let direct = {
            // The spawner, and with it all shims, belong to the group.
            let _inside = group.map(CpuGroup::enter);
            Box::new(Direct::new(layers, options.own_shim).await)
        };
        add(name, Carrier::Runtime { direct, command });
    }
    if options.no_jobs {
        return ways;
    }
    let pods = options.parallelism.max(110);
    add("Job, stint dev", Carrier::Job(Box::new(Loaded::dev().await)));
    add("Job, 3 servers and 2 agents", Carrier::Job(Box::new(Loaded::cluster(3, 2, pods).await)));
    ways
}

impl Way {
    async fn round(&mut self, options: &Options, group: Option<&CpuGroup>, pods: &PodGroups) {
        let count = options.count;
        let (wall, used) = match &mut self.carrier {
            Carrier::Job(loaded) => {
                let ran = loaded.run(TRUE, count, options.parallelism).await;
                (ran.wall, loaded.counts().then_some(ran.used))
            }
            carrier => {
                let _inside = group.map(CpuGroup::enter);
                let of_group = || group.map_or(Duration::ZERO, CpuGroup::used);
                let before = Used { agents: of_group(), pods: pods.used(), ..Used::default() };
                let begun = Instant::now();
                match carrier {
                    Carrier::Spawn(threads) => spawn_all(count, *threads),
                    Carrier::Runtime { direct, command } => {
                        direct.run_all(command, count, options.at_once).await
                    }
                    Carrier::Job(_) => {}
                }
                let wall = begun.elapsed();
                let used = Used { agents: of_group(), pods: pods.used(), ..Used::default() }.since(before);
                (wall, group.map(|_| used))
            }
        };
        self.rates.push(count as f64 / wall.as_secs_f64());
        if let Some(used) = used {
            self.cpu_ms.push(used.total().as_secs_f64() * 1e3 / count as f64);
            self.parts.push(used);
        }
    }
}

fn spawn_all(count: usize, threads: usize) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let share = count / threads + usize::from(thread < count % threads);
            scope.spawn(move || {
                for _ in 0..share {
                    let mut command = Command::new(TRUE[0]);
                    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                    assert!(command.status().unwrap().success());
                }
            });
        }
    });
}

fn print(ways: &[Way], options: &Options) {
    let spawn = &ways[1];
    let isolated = ways.iter().find(|way| way.name.contains(ISOLATED)).unwrap_or(spawn);
    // Of each round, as what disturbs one disturbs its neighbours.
    let ratio = |way: &Way, to: &Way| {
        let ratios: Vec<f64> = way.rates.iter().zip(&to.rates).map(|(rate, other)| rate / other).collect();
        format!("{:.2}", median(&ratios))
    };
    let mut table =
        Table::new(&["", "per second", "of posix_spawn", "of isolated", "CPU-ms each", "more than above"]);
    let mut above: Option<f64> = None;
    for way in ways {
        let cpu_ms = median(&way.cpu_ms);
        let counts = !way.cpu_ms.is_empty();
        let number = |value: f64| if counts { format!("{value:.2}") } else { "-".to_owned() };
        let is_layer = matches!(way.carrier, Carrier::Runtime { .. });
        let more = above.filter(|_| is_layer).map_or(String::new(), |above| number(cpu_ms - above));
        above = is_layer.then_some(cpu_ms);
        table.row(vec![
            way.name.to_owned(),
            format!("{:.0}", median(&way.rates)),
            ratio(way, spawn),
            ratio(way, isolated),
            number(cpu_ms),
            more,
        ]);
    }
    println!(
        "{} rounds of {}; without a queue {} at once, in Jobs {} at once; of posix_spawn: by 2 threads",
        options.rounds, options.count, options.at_once, options.parallelism
    );
    table.print();
    let mut parts = Table::new(&["CPU-ms of each Pod", "servers", "agents and shims", "containers"]);
    for way in ways.iter().filter(|way| !way.parts.is_empty() && !matches!(way.carrier, Carrier::Spawn(_))) {
        let part = |of: fn(&Used) -> Duration| {
            let values: Vec<f64> =
                way.parts.iter().map(|used| of(used).as_secs_f64() * 1e3 / options.count as f64).collect();
            format!("{:.2}", median(&values))
        };
        parts.row(vec![
            way.name.to_owned(),
            part(|used| used.servers),
            part(|used| used.agents),
            part(|used| used.pods),
        ]);
    }
    parts.print();
}
