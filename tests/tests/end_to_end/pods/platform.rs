//! What a suite of Pods runs on: processes of root, of a user with and without namespaces, containers of an engine, containers
//! without a daemon.
//!
//! Owns: starting each of them, or saying why that is not possible on this machine; which cases mean something else there.
//! Does not own: the cases.

use super::{Case, Need, run_suite};
use serde_json::{Value, json};
use stint_tests::engine::Engine;
use stint_tests::{AgentUser, Cluster, ClusterOptions, ServedImages, abilities};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Processes, by an agent of root.
    RootProcess,
    /// Processes, by an agent that is not root but gets a user namespace.
    UserProcess,
    /// Processes, by an agent that gets no namespaces at all.
    BareProcess,
    /// Containers of containerd.
    Cri,
    /// Containers without a daemon.
    Oci,
}

use Platform::{BareProcess, Cri, Oci, RootProcess, UserProcess};

const CONTAINERS: &[Platform] = &[Cri, Oci];

/// Cases that mean something else on some platforms, and why.
const DIFFERENT: &[(&str, &[Platform], &str)] = &[
    ("working-folder-missing", CONTAINERS, "a working folder that an image has not is made, as engines do"),
    (
        "carriage-returns",
        &[Cri],
        "the engine writes lines to its logs without the carriage returns that end them",
    ),
    ("groups-of-the-host-are-refused", CONTAINERS, "the groups in an image are its own"),
    ("not-root", CONTAINERS, "the image of the tests says that its user is root"),
];

impl Platform {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            RootProcess => "processes of root",
            UserProcess => "processes of a user",
            BareProcess => "processes without namespaces",
            Cri => "containers of containerd",
            Oci => "containers without a daemon",
        }
    }

    /// Made of images.
    pub fn is_containers(self) -> bool {
        CONTAINERS.contains(&self)
    }

    fn has(self, need: Need) -> Result<(), String> {
        let only = |platforms: &[Platform]| match platforms.contains(&self) {
            true => Ok(()),
            false => Err(format!("{need:?} are not to be had")),
        };
        match need {
            Need::Limits => only(&[RootProcess, Cri, Oci]).and_then(|()| abilities::control_groups()),
            Need::Mounts | Need::Namespaces => only(&[RootProcess, UserProcess, Cri, Oci]),
            Need::Users => only(&[RootProcess, Cri, Oci]),
            Need::Images => only(CONTAINERS),
        }
    }

    /// Why a case is not run.
    pub fn leaves_out(self, case: &Case) -> Option<String> {
        let different = DIFFERENT.iter().find(|(name, on, _)| *name == case.name && on.contains(&self));
        if let Some((_, _, why)) = different {
            return Some((*why).to_owned());
        }
        case.needs.iter().find_map(|need| self.has(*need).err())
    }
}

/// A case that has another name by now must not be left out in silence.
pub fn check_table<'a>(cases: impl Iterator<Item = &'a str>) {
    let cases: Vec<&str> = cases.collect();
    for (name, _, _) in DIFFERENT {
        assert!(cases.contains(name), "no case is called {name}");
    }
}

fn options(arguments: &[&str]) -> ClusterOptions {
    let mut options = ClusterOptions::new(1, 1);
    let all = [&["--max-pods", "250"], arguments].concat();
    options.agent_arguments.extend(all.into_iter().map(str::to_owned));
    options
}

fn not_run(platform: Platform, why: &str) {
    println!("not run: {}: {why}", platform.name());
}

fn run(platform: Platform, options: ClusterOptions, pod_fields: &Value) {
    let mut cluster = Cluster::start(options);
    run_suite(&cluster, platform, pod_fields);
    cluster.end_agents();
}

#[test]
fn processes_of_root() {
    if !nix::unistd::geteuid().is_root() {
        return not_run(RootProcess, "not root");
    }
    // Who a case asks to be.
    run(RootProcess, options(&["--allow", "user=4200-4299"]), &json!({}));
}

#[test]
fn processes_of_a_user() {
    let mut options = options(&[]);
    if nix::unistd::geteuid().is_root() {
        options.agent_user = AgentUser::Nobody;
    }
    if let Err(why) = abilities::user_namespaces() {
        return not_run(UserProcess, &why);
    }
    run(UserProcess, options, &json!({}));
}

#[test]
fn processes_without_namespaces() {
    if !nix::unistd::geteuid().is_root() {
        return not_run(BareProcess, "only root can make surroundings that refuse namespaces");
    }
    let mut options = options(&[]);
    options.agent_user = AgentUser::NobodyWithoutNamespaces;
    run(BareProcess, options, &json!({}));
}

#[test]
fn containers_of_an_engine() {
    let engine = match Engine::start() {
        Ok(engine) => engine,
        Err(why) => return not_run(Cri, &why),
    };
    let images = ServedImages::start();
    // Beside processes, which are for Pods that name no runtime.
    let mut options =
        options(&["--runtime", "process", "--runtime", "cri", "--cri-socket", &engine.address()]);
    options.agent_arguments.extend(images.agent_arguments());
    run(Cri, options, &json!({"runtimeClassName": "cri"}));
    assert_eq!(engine.containers(), Vec::<String>::new(), "nothing is left in the engine");
}

#[test]
fn containers_without_a_daemon() {
    let below = match abilities::containers_without_daemon() {
        Ok(below) => below,
        Err(why) => return not_run(Oci, &why),
    };
    let images = ServedImages::start();
    let mut options = options(&["--runtime", "oci", "--runtime", "process"]);
    options.agent_arguments.extend(images.agent_arguments());
    options.below = Some(below);
    run(Oci, options, &json!({"runtimeClassName": "oci"}));
}
