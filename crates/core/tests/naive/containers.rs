//! The containers of a Pod: whose turn it is, what runs again, when the Pod is over (P1, P7–P10, A14, J61).

use stint_api::{Container as ApiContainer, PodSpec};
use stint_core::{ContainerRecord, ContainerRunState, PodReportKind};

use super::Naive;
use super::pods::{Pod, Stop, doubled};

/// What a container is, by its template.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub name: String,
    /// `init`, `sidecar` or `app`.
    pub role: &'static str,
    /// `Never`, `OnFailure` or `Always`.
    pub policy: String,
    /// Action, and for which exit codes; or, if the switch is off, for which not.
    pub rules: Vec<(String, bool, Vec<i32>)>,
    pub startup_probe: bool,
    pub readiness_probe: bool,
    pub cpu_millis: i128,
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub doing: Doing,
    pub restarts: u32,
    pub restart_at: Option<i64>,
    /// Restarts without ten healthy minutes between them (P9).
    pub crashes: u32,
    /// Nobody waits for its start any more (P7).
    pub let_pass: bool,
    pub last_exit: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Doing {
    Nothing,
    /// It was asked for.
    Asked,
    Runs {
        since: i64,
        started: bool,
        ready: bool,
    },
    Over,
}

impl Shape {
    pub fn all_of(spec: &PodSpec) -> Vec<Shape> {
        let pods_own = spec.restart_policy.as_ref().map_or("Never", |policy| policy.as_str());
        let shape = |container: &ApiContainer, is_init: bool| {
            let policy = container.restart_policy.as_ref().map_or(pods_own, |policy| policy.as_str());
            Shape {
                name: container.name.clone(),
                role: match (is_init, container.restart_policy.as_ref().map(|policy| policy.as_str())) {
                    (true, Some("Always")) => "sidecar",
                    (true, _) => "init",
                    (false, _) => "app",
                },
                policy: policy.to_owned(),
                rules: container
                    .restart_policy_rules
                    .iter()
                    .map(|rule| {
                        let codes = rule.exit_codes.as_ref().unwrap();
                        let is_in = codes.operator.as_str() == "In";
                        (rule.action.as_str().to_owned(), is_in, codes.values.clone())
                    })
                    .collect(),
                startup_probe: container.startup_probe.is_some(),
                readiness_probe: container.readiness_probe.is_some(),
                cpu_millis: container.requests.get("cpu").map_or(0, |cpu| cpu.millis()),
            }
        };
        let init = spec.init_containers.iter().map(|container| shape(container, true));
        init.chain(spec.containers.iter().map(|container| shape(container, false))).collect()
    }
}

/// The most that runs at one moment: an init container beside the sidecars before it, or all that stays.
pub fn most_cpu_millis(shapes: &[Shape]) -> i128 {
    let moment = |place: usize| {
        let before = shapes[..place].iter().filter(|one| one.role == "sidecar");
        before.map(|one| one.cpu_millis).sum::<i128>() + shapes[place].cpu_millis
    };
    let stays = shapes.iter().filter(|one| one.role != "init").map(|one| one.cpu_millis).sum();
    let init = (0..shapes.len()).filter(|place| shapes[*place].role == "init").map(moment);
    init.fold(stays, i128::max)
}

impl Container {
    pub fn new() -> Container {
        Container {
            doing: Doing::Nothing,
            restarts: 0,
            restart_at: None,
            crashes: 0,
            let_pass: false,
            last_exit: None,
        }
    }

    pub fn may_run(&self) -> bool {
        matches!(self.doing, Doing::Asked | Doing::Runs { .. })
    }

    fn succeeded(&self) -> bool {
        self.doing == Doing::Over && self.last_exit == Some(0)
    }

    /// The run that it stands at was asked for.
    fn was_asked(&self) -> bool {
        self.doing != Doing::Nothing
    }

    pub fn compare(&self, real: &ContainerRecord) {
        let doing = match &real.state {
            ContainerRunState::Blocked => Doing::Nothing,
            ContainerRunState::Waiting { .. } => Doing::Asked,
            ContainerRunState::Running { since, started, ready, .. } => {
                Doing::Runs { since: since.0, started: *started, ready: *ready }
            }
            ContainerRunState::Ended => Doing::Over,
        };
        assert_eq!(doing, self.doing);
        assert_eq!(
            (real.restart_count, real.restart_at.map(|at| at.0), real.has_started),
            (self.restarts, self.restart_at, self.let_pass),
            "{self:?}"
        );
        assert_eq!(real.restart_backoff_exponent, self.crashes, "P9: {self:?}");
        assert_eq!(real.termination.as_ref().map(|end| end.exit_code), self.last_exit, "{self:?}");
    }
}

/// P8: it has run to its success; P7: it has started.
fn is_passed(shape: &Shape, container: &Container) -> bool {
    match shape.role {
        "init" => container.succeeded(),
        _ => container.let_pass,
    }
}

/// Everything before the first container that is not passed may run.
pub fn ask(shapes: &[Shape], pod: &mut Pod) {
    for place in 0..shapes.len() {
        let before = (0..place).filter(|before| shapes[*before].role != "app");
        let is_free = before.clone().all(|before| is_passed(&shapes[before], &pod.containers[before]));
        if is_free && pod.containers[place].doing == Doing::Nothing {
            pod.containers[place].doing = Doing::Asked;
        }
    }
}

/// True if what the Pod was there for has succeeded, and it did not fail as a whole (D5).
pub fn all_good(shapes: &[Shape], pod: &Pod) -> bool {
    let mut all = shapes.iter().zip(&pod.containers);
    pod.reason.is_empty()
        && pod.containers.len() == shapes.len()
        && all.all(|(shape, one)| shape.role == "sidecar" || one.succeeded())
}

/// True if what the Pod was there for is over.
fn is_over(shapes: &[Shape], pod: &Pod) -> bool {
    let all = || shapes.iter().zip(&pod.containers);
    let failed = |(shape, one): (&Shape, &Container)| {
        shape.role == "init" && one.doing == Doing::Over && !one.succeeded()
    };
    let ended = |(shape, one): (&Shape, &Container)| shape.role == "sidecar" || one.doing == Doing::Over;
    all().any(failed) || all().all(ended)
}

impl Naive {
    /// A report about one run. False: ignored.
    pub(super) fn report_run(&mut self, place: usize, at: usize, kind: &PodReportKind) -> bool {
        let shapes = self.templates[&self.pods[place].job].shapes.clone();
        let time = self.time;
        let pod = &mut self.pods[place];
        let has_other_plans = pod.stop.is_some() || pod.starting_over || pod.sidecars_until.is_some();
        let one = &mut pod.containers[at];
        match kind {
            PodReportKind::Running { .. } => {
                if one.doing == Doing::Asked {
                    let started = !shapes[at].startup_probe;
                    let ready = started && !shapes[at].readiness_probe;
                    one.doing = Doing::Runs { since: time, started, ready };
                    one.restart_at = None;
                    one.let_pass |= started;
                }
            }
            PodReportKind::Readiness { started: says_started, ready: says_ready, .. } => {
                let Doing::Runs { since, started, .. } = one.doing else { return false };
                let started = started || *says_started;
                let ready = started && (*says_ready || !shapes[at].readiness_probe);
                one.doing = Doing::Runs { since, started, ready };
                one.let_pass |= started;
            }
            PodReportKind::Waiting { .. } => return one.doing == Doing::Asked,
            PodReportKind::NotStarted { .. } => {
                if one.doing != Doing::Asked || !has_other_plans {
                    return false;
                }
                one.doing = Doing::Over;
                one.restart_at = None;
            }
            PodReportKind::ContainerExited { termination, .. } => {
                self.exited(place, at, termination.exit_code);
            }
            PodReportKind::StartFailed { termination, .. } => {
                let code = if termination.exit_code == 0 { 128 } else { termination.exit_code };
                self.exited(place, at, code);
            }
            PodReportKind::LeaseExpired { termination, .. } => {
                if let Some(termination) = termination {
                    one.doing = Doing::Over;
                    one.last_exit = Some(termination.exit_code);
                }
            }
            PodReportKind::PodFailed { .. } | PodReportKind::Notice { .. } => unreachable!(),
        }
        true
    }

    /// A14, P9, P10, J61, D5.
    fn exited(&mut self, place: usize, at: usize, code: i32) {
        let time = self.time;
        let uid = self.pods[place].job;
        let template = self.templates[&uid].clone();
        let shape = &template.shapes[at];
        let decided = self.jobs.get(&uid).is_some_and(|job| super::decision(job).is_some());
        let pod = &self.pods[place];
        let may_restart =
            pod.stop.is_none() && !pod.starting_over && pod.sidecars_until.is_none() && !decided;
        let mut rules = shape.rules.iter();
        let rule = rules.find(|(_, is_in, codes)| codes.contains(&code) == *is_in);
        let rule = rule.map(|(action, ..)| action.as_str());
        let what = match (rule, shape.policy.as_str()) {
            _ if !may_restart => "stay",
            (Some("Restart"), _) => "restart",
            (Some(_), _) => "all",
            (None, "Always") => "restart",
            (None, "OnFailure") if code != 0 => "restart",
            _ => "stay",
        };
        let more = match what {
            "stay" => 0,
            "restart" => 1,
            _ => pod.containers.iter().filter(|one| one.was_asked()).count() as u64,
        };
        let (base, cap) = match self.jobs.get(&uid) {
            // D4: where the Job says nothing, J50 and P9 have caps of their own.
            Some(job) => {
                (job.spec.base_ms, if job.spec.cap_ms == 600_000 { 300_000 } else { job.spec.cap_ms })
            }
            None => (10_000, 300_000),
        };
        let mut crashes = pod.containers[at].crashes;
        let ten_minutes = 600_000;
        if let Doing::Runs { since, .. } = pod.containers[at].doing
            && time.saturating_sub(since) >= ten_minutes
        {
            crashes = 0;
        }
        let so_far: u64 = self.restarts_of(uid);
        let limit = self.jobs.get(&uid).map_or(u64::MAX, |job| u64::from(job.spec.backoff_limit));
        let one = &mut self.pods[place].containers[at];
        one.doing = Doing::Over;
        one.last_exit = Some(code);
        one.restart_at = None;
        if more > 0 && template.on_failure && so_far + more >= limit {
            self.decide(uid, "FailureTarget", "BackoffLimitExceeded");
            self.pods[place].reason = "BackoffLimitExceeded";
            match self.pods[place].containers.iter().any(Container::may_run) {
                true => self.stop(place, Stop::JobFailed, None),
                false => self.pods[place].stop = Some(Stop::JobFailed),
            }
            return;
        }
        if what != "stay" {
            one.restart_at = Some(time.saturating_add(doubled(base, cap, crashes)));
            one.crashes = crashes + 1;
        }
        match what {
            "restart" => {
                one.doing = Doing::Asked;
                one.restarts += 1;
            }
            "all" => self.pods[place].starting_over = true,
            _ => {}
        }
    }

    /// J61.
    pub(super) fn restarts_of(&self, uid: stint_api::JobUid) -> u64 {
        let pods = self.unfinished(uid).into_iter().map(|place| &self.pods[place]);
        pods.flat_map(|pod| &pod.containers).map(|one| u64::from(one.restarts)).sum()
    }

    /// What follows for a Pod whose containers have changed.
    pub(super) fn follow(&mut self, place: usize) {
        let (time, template) = (self.time, self.templates[&self.pods[place].job].clone());
        let shapes = &template.shapes;
        let pod = &mut self.pods[place];
        let mut init = shapes.iter().zip(&pod.containers).filter(|(shape, _)| shape.role != "app").peekable();
        if init.peek().is_some() && init.all(|(shape, one)| is_passed(shape, one)) {
            pod.initialized_since.get_or_insert(time);
        }
        let something_may_run = pod.containers.iter().any(Container::may_run);
        if pod.stop.is_some() {
            if !something_may_run {
                let good = all_good(shapes, pod);
                return self.end(place, good, "");
            }
        } else if pod.starting_over {
            if !something_may_run {
                pod.starting_over = false;
                pod.initialized_since = None;
                let at = pod.containers.iter().filter_map(|one| one.restart_at).max();
                for one in pod.containers.iter_mut().filter(|one| one.was_asked()) {
                    one.doing = Doing::Nothing;
                    one.restarts += 1;
                    one.restart_at = at;
                    one.let_pass = false;
                }
                ask(shapes, pod);
            }
        } else if is_over(shapes, pod) {
            if !something_may_run {
                let good = all_good(shapes, pod);
                return self.end(place, good, "");
            }
            pod.sidecars_until.get_or_insert(time.saturating_add(template.grace_ms));
        } else {
            ask(shapes, pod);
        }
        let pod = &mut self.pods[place];
        let mut of_apps = shapes.iter().zip(&pod.containers).filter(|(shape, _)| shape.role == "app");
        let has_run = |one: &Container| matches!(one.doing, Doing::Runs { .. }) || one.last_exit.is_some();
        pod.has_started |= of_apps.any(|(_, one)| has_run(one));
        pod.has_run |= pod.containers.iter().any(has_run);
        let mut stays = shapes.iter().zip(&pod.containers).filter(|(shape, _)| shape.role != "init");
        let is_ready = stays.all(|(_, one)| matches!(one.doing, Doing::Runs { ready: true, .. }));
        if is_ready != pod.ready_since.is_some() {
            pod.ready_since = is_ready.then_some(time);
        }
    }
}
