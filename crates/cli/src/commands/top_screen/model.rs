//! What the screen shows: the last picture, rates, order, place.

use std::collections::HashMap;
use std::time::Duration;
use stint_client::{moment, v1};

use super::feed::{News, Picture};
use super::rows::{SortKey, job_row, node_row, pod_row, titles};

/// What there is a table of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Jobs,
    Pods,
    Nodes,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Quit,
    /// Go back to the shell for a while.
    Suspend,
    Jobs,
    Pods,
    Nodes,
    NextTab,
    NextOrder,
    Reverse,
    Hold,
    /// So many rows down.
    Move(i64),
}

/// How fast things happen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    pub pods_ended: f64,
    pub jobs_finished: f64,
    pub changes: f64,
    /// Ends of Pods, by Job.
    pub by_job: HashMap<String, f64>,
}

/// Everything that is shown.
#[derive(Debug)]
pub struct Model {
    pub interval: Duration,
    pub has_colors: bool,
    picture: Option<Picture>,
    pub rates: Rates,
    /// Why there is no newer picture.
    pub trouble: Option<String>,
    tab: Tab,
    /// Which column each table is ordered by.
    orders: [usize; 3],
    reversed: [bool; 3],
    /// The row that is marked, in each table.
    places: [usize; 3],
    pub is_held: bool,
}

/// A table as it is shown.
#[derive(Debug)]
pub struct Rows {
    pub titles: &'static [&'static str],
    /// The column that they are ordered by.
    pub order: usize,
    pub is_reversed: bool,
    pub rows: Vec<Vec<String>>,
    /// Of so many in the cluster.
    pub total: u64,
}

impl Model {
    pub fn new(interval: Duration, has_colors: bool) -> Model {
        Model {
            interval,
            has_colors,
            picture: None,
            rates: Rates::default(),
            trouble: None,
            tab: Tab::Jobs,
            // The newest first, and nodes by name.
            orders: [7, 6, 0],
            reversed: [false; 3],
            places: [0; 3],
            is_held: false,
        }
    }

    pub fn tab(&self) -> Tab {
        self.tab
    }

    pub fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// How old the picture is.
    pub fn age(&self) -> Option<Duration> {
        self.picture.as_ref().map(|picture| picture.taken.elapsed())
    }

    /// Takes an answer in; a picture only while none is held.
    pub fn take(&mut self, news: News) {
        match news {
            News::Trouble(text) => self.trouble = Some(text),
            News::Picture(picture) => {
                self.trouble = None;
                if !self.is_held {
                    if let Some(before) = &self.picture {
                        self.rates = rates(before, &picture);
                    }
                    self.picture = Some(*picture);
                }
            }
        }
    }

    pub fn act(&mut self, action: Action) {
        let n_rows = self.rows().rows.len();
        let tab = self.tab as usize;
        match action {
            Action::Quit | Action::Suspend => {}
            Action::Jobs => self.tab = Tab::Jobs,
            Action::Pods => self.tab = Tab::Pods,
            Action::Nodes => self.tab = Tab::Nodes,
            Action::NextTab => {
                self.tab = match self.tab {
                    Tab::Jobs => Tab::Pods,
                    Tab::Pods => Tab::Nodes,
                    Tab::Nodes => Tab::Jobs,
                }
            }
            Action::NextOrder => self.orders[tab] = (self.orders[tab] + 1) % titles(self.tab).len(),
            Action::Reverse => self.reversed[tab] = !self.reversed[tab],
            Action::Hold => self.is_held = !self.is_held,
            Action::Move(rows) => {
                let place = i64::try_from(self.places[tab]).unwrap_or(i64::MAX).saturating_add(rows);
                let last = n_rows.saturating_sub(1);
                self.places[tab] = usize::try_from(place.max(0)).unwrap_or(usize::MAX).min(last);
            }
        }
    }

    /// The marked row.
    pub fn place(&self) -> usize {
        self.places[self.tab as usize]
    }

    /// The table that is shown, in its order.
    pub fn rows(&self) -> Rows {
        let tab = self.tab as usize;
        let (order, is_reversed) = (self.orders[tab], self.reversed[tab]);
        let mut rows: Vec<(SortKey, Vec<String>)> = Vec::new();
        let mut total = 0;
        if let Some(picture) = &self.picture {
            let overview = &picture.overview;
            let now = moment(overview.time).unwrap_or_default();
            let counts = overview.counts.unwrap_or_default();
            match self.tab {
                Tab::Jobs => {
                    total = counts.unfinished_jobs;
                    rows.extend(overview.jobs.iter().map(|job| {
                        let rate = self.rates.by_job.get(&job.uid).copied().unwrap_or(0.0);
                        job_row(job, rate, order, now)
                    }));
                }
                Tab::Pods => {
                    total = counts.pods_pending + counts.pods_running;
                    rows.extend(overview.pods.iter().map(|pod| pod_row(pod, order, now)));
                }
                Tab::Nodes => {
                    total = counts.nodes;
                    let usage: HashMap<&str, &v1::NodeUsage> =
                        picture.usage.iter().map(|one| (one.name.as_str(), one)).collect();
                    let row = |node: &v1::OverviewNode| {
                        node_row(node, usage.get(node.name.as_str()).copied(), order)
                    };
                    rows.extend(overview.nodes.iter().map(row));
                }
            }
        }
        rows.sort_by(|one, other| one.0.cmp(&other.0).then_with(|| one.1.cmp(&other.1)));
        if is_reversed {
            rows.reverse();
        }
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        Rows { titles: titles(self.tab), order, is_reversed, rows, total }
    }
}

fn rates(before: &Picture, now: &Picture) -> Rates {
    let seconds = now.taken.duration_since(before.taken).as_secs_f64();
    if seconds <= 0.0 {
        return Rates::default();
    }
    // What became less was deleted, or collected: that is no rate.
    let per_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let counts = |picture: &Picture| picture.overview.counts.unwrap_or_default();
    let (was, is) = (counts(before), counts(now));
    let ends = |job: &v1::OverviewJob| u64::from(job.succeeded) + u64::from(job.failed);
    let ends_before: HashMap<&str, u64> =
        before.overview.jobs.iter().map(|job| (job.uid.as_str(), ends(job))).collect();
    let by_job = now.overview.jobs.iter().filter_map(|job| {
        Some((job.uid.clone(), per_second(*ends_before.get(job.uid.as_str())?, ends(job))))
    });
    Rates {
        pods_ended: per_second(was.pods_ended, is.pods_ended),
        jobs_finished: per_second(
            was.jobs.saturating_sub(was.unfinished_jobs),
            is.jobs.saturating_sub(is.unfinished_jobs),
        ),
        changes: per_second(before.overview.revision, now.overview.revision),
        by_job: by_job.collect(),
    }
}

/// A picture for tests.
#[cfg(test)]
pub fn test_picture(n_jobs: u32, ended: u64, taken: std::time::Instant) -> Box<Picture> {
    use std::time::UNIX_EPOCH;
    let at = |seconds: u64| Some((UNIX_EPOCH + Duration::from_secs(seconds)).into());
    let job = |number: u32| v1::OverviewJob {
        namespace: "team".to_owned(),
        name: format!("job-{number}"),
        status: "Running".to_owned(),
        completions: format!("{ended}/10"),
        active: number,
        ready: number,
        succeeded: u32::try_from(ended).unwrap(),
        failed: 0,
        created: at(u64::from(number)),
        uid: number.to_string(),
    };
    let pod = v1::OverviewPod {
        namespace: "team".to_owned(),
        name: "job-1-abcde".to_owned(),
        job_name: "job-1".to_owned(),
        node_name: "w1".to_owned(),
        status: "Running".to_owned(),
        restarts: 2,
        created: at(10),
    };
    let node = v1::OverviewNode {
        name: "w1".to_owned(),
        status: "Ready".to_owned(),
        requested_cpu_millis: 500,
        capacity_cpu_millis: 4_000,
        requested_memory_bytes: 64 << 20,
        capacity_memory_bytes: 8 << 30,
        requested_pods: 3,
        capacity_pods: 110,
    };
    Box::new(Picture {
        overview: v1::OverviewResponse {
            counts: Some(v1::OverviewCounts {
                jobs: u64::from(n_jobs) + ended,
                unfinished_jobs: n_jobs.into(),
                pods_pending: 1,
                pods_running: 3,
                pods_unbound: 1,
                pods_ended: ended,
                nodes: 2,
                nodes_live: 1,
            }),
            jobs: (1..=n_jobs).map(job).collect(),
            pods: vec![pod],
            nodes: vec![node],
            time: at(130),
            revision: 100 + ended * 10,
            leader: "s1".to_owned(),
        },
        usage: Vec::new(),
        taken,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn names(model: &Model) -> Vec<String> {
        model.rows().rows.into_iter().map(|row| row[0].clone()).collect()
    }

    #[test]
    fn rates_are_of_what_has_changed_between_two_pictures() {
        let begun = Instant::now();
        let mut model = Model::new(Duration::from_secs(2), false);
        model.take(News::Picture(test_picture(2, 4, begun)));
        assert_eq!(model.rates, Rates::default(), "one picture has no rates");
        model.take(News::Picture(test_picture(2, 8, begun + Duration::from_secs(2))));
        assert_eq!(
            (model.rates.pods_ended, model.rates.changes, model.rates.jobs_finished),
            (2.0, 20.0, 2.0)
        );
        assert_eq!(model.rates.by_job["1"], 2.0);
        model.take(News::Picture(test_picture(2, 1, begun + Duration::from_secs(4))));
        assert_eq!(model.rates.pods_ended, 0.0, "rows that were deleted are no rate");
    }

    #[test]
    fn rows_are_ordered_as_keys_ask_for() {
        let mut model = Model::new(Duration::from_secs(2), false);
        model.take(News::Picture(test_picture(3, 0, Instant::now())));
        assert_eq!(names(&model), ["job-3", "job-2", "job-1"], "the newest first");
        model.act(Action::Reverse);
        assert_eq!(names(&model), ["job-1", "job-2", "job-3"]);
        model.act(Action::Reverse);
        model.act(Action::NextOrder);
        assert_eq!(names(&model), ["job-1", "job-2", "job-3"], "by name");
        for _ in 0..4 {
            model.act(Action::NextOrder);
        }
        assert_eq!(model.rows().titles[model.rows().order], "ACTIVE");
        assert_eq!(names(&model)[0], "job-3", "the most first");
        model.act(Action::NextTab);
        assert_eq!((model.tab(), names(&model)), (Tab::Pods, vec!["job-1-abcde".to_owned()]));
        model.act(Action::Nodes);
        assert_eq!(model.rows().rows[0][2..5], ["3/110", "500m/4000m", "64/8192Mi"]);
    }

    #[test]
    fn a_place_stays_among_the_rows_and_a_picture_that_is_held_stays() {
        let mut model = Model::new(Duration::from_secs(2), false);
        for action in [Action::Move(5), Action::Move(i64::MIN), Action::NextOrder, Action::Hold, Action::Hold]
        {
            model.act(action);
        }
        assert_eq!(model.place(), 0, "there are no rows yet");
        model.take(News::Picture(test_picture(3, 0, Instant::now())));
        model.act(Action::Move(i64::MAX));
        assert_eq!(model.place(), 2);
        model.act(Action::Move(-1));
        assert_eq!(model.place(), 1);
        model.act(Action::Hold);
        model.take(News::Picture(test_picture(9, 0, Instant::now())));
        assert_eq!(model.rows().rows.len(), 3);
        model.take(News::Trouble("no leader".to_owned()));
        assert_eq!(model.trouble.as_deref(), Some("no leader"));
    }
}
