//! How far a Job is, as somebody waits for it.
//!
//! Owns: the bar at the foot of a terminal, lines where there is none, questions. Does not own: what is printed above it
//! (`output`), following a Job (`commands`).
//!
//! Invariant: where stderr is no terminal a line comes only when something has changed, and at most every
//! [`LINE_INTERVAL`].

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use stint_api::{Job, duration};
use stint_client::{Trouble, TroubleKind};

use crate::color::{Stream, Tone, paint};
use crate::output;

/// How often [`Progress::tick`] is to be called.
pub const TICK: Duration = Duration::from_millis(200);
/// Between two lines where there is no bar.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Trouble that lasts less is not worth a word: an election takes as long.
const TROUBLE_MIN: Duration = Duration::from_secs(2);
/// What a rate is measured over.
const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Moments that are kept of it.
const RATE_SAMPLES_MAX: usize = 120;

/// Pods of a Job by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// How many must succeed; None for a work queue, which ends when its Pods say so.
    pub wanted: Option<u64>,
    pub succeeded: u64,
    pub failed: u64,
    pub running: u64,
    /// Made, and not running yet.
    pub pending: u64,
    pub is_suspended: bool,
}

impl Counts {
    pub fn of(job: &Job) -> Counts {
        let count = |number: i32| u64::try_from(number).unwrap_or(0);
        let running = count(job.status.ready.unwrap_or(0));
        Counts {
            wanted: job.spec.completions.map(count),
            succeeded: count(job.status.succeeded),
            failed: count(job.status.failed),
            running,
            pending: count(job.status.active).saturating_sub(running),
            is_suspended: job.spec.suspend == Some(true),
        }
    }

    fn left(&self) -> Option<u64> {
        Some(self.wanted?.saturating_sub(self.succeeded))
    }

    /// `3/10 succeeded, 1 failed, 4 running, 2 pending`; what is none is left out.
    fn words(&self, failed_tone: impl Fn(&str) -> String) -> String {
        let mut words = match self.wanted {
            Some(wanted) => format!("{}/{wanted} succeeded", self.succeeded),
            None => format!("{} succeeded", self.succeeded),
        };
        if self.failed > 0 {
            words.push_str(&format!(", {}", failed_tone(&format!("{} failed", self.failed))));
        }
        for (count, what) in [(self.running, "running"), (self.pending, "pending")] {
            if count > 0 {
                words.push_str(&format!(", {count} {what}"));
            }
        }
        if self.is_suspended {
            words.push_str(", suspended");
        }
        words
    }
}

/// How fast Pods succeed.
#[derive(Debug, Default)]
struct Rate {
    /// Moment and successes until then, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    fn add(&mut self, now: Instant, succeeded: u64) {
        // The newest of the samples beyond the window stays: a rate is measured from there.
        while self.samples.get(1).is_some_and(|(moment, _)| now.duration_since(*moment) > RATE_WINDOW)
            || self.samples.len() >= RATE_SAMPLES_MAX
        {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(_, last)| *last != succeeded) {
            self.samples.push_back((now, succeeded));
        }
    }

    /// Successes a second until now; None before there are any.
    fn per_second(&self, now: Instant) -> Option<f64> {
        let ((begun, first), (_, last)) = (self.samples.front()?, self.samples.back()?);
        let seconds = now.duration_since(*begun).as_secs_f64();
        let count = u32::try_from(last.checked_sub(*first)?).ok().filter(|count| *count > 0)?;
        (seconds > 0.0).then(|| f64::from(count) / seconds)
    }
}

/// `2.5/s`, or `3.1/min` where a second is too short.
fn words_of_rate(per_second: f64) -> String {
    if per_second >= 1.0 { format!("{per_second:.1}/s") } else { format!("{:.1}/min", per_second * 60.0) }
}

/// `about 1m30s left`, without digits that nobody knows.
fn words_of_rest(left: u64, per_second: f64) -> Option<String> {
    let seconds = f64::from(u32::try_from(left).ok()?) / per_second;
    // A year is as good as never.
    let whole = (seconds < 31_536_000.0).then(|| Duration::from_secs_f64(seconds).as_secs())?;
    let rounded = match whole {
        0..60 => whole,
        60..3600 => whole - whole % 10,
        _ => whole - whole % 60,
    };
    Some(format!("about {} left", duration::format_ms(rounded.max(1) * 1000)))
}

/// `no leader for 2s, trying 10.0.0.2:7440`.
fn words_of_trouble(trouble: &Trouble) -> String {
    let what = match trouble.kind {
        TroubleKind::NoLeader => "no leader",
        TroubleKind::Busy => "the servers have no time",
        _ => "no answer",
    };
    format!("{what} for {}s, trying {}", trouble.duration.as_secs(), trouble.next_address)
}

/// What is shown of a Job.
pub struct Progress {
    shown: Shown,
    name: String,
    counts: Counts,
    rate: Rate,
    trouble: Option<Trouble>,
    trouble_was_told: bool,
}

enum Shown {
    /// A bar at the foot of a terminal.
    Bar(ProgressBar),
    /// Lines, and when and what the last one said.
    Lines {
        last: Instant,
        told: String,
    },
    Nothing,
}

/// The foot of the terminal; where stderr is none it is not there.
pub struct Foot {
    bars: Option<MultiProgress>,
}

impl Foot {
    /// What is printed from now on appears above it.
    pub fn new() -> Foot {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        // Also of a terminal that can't move its cursor.
        let bars = (!bars.is_hidden()).then_some(bars);
        output::show_at_foot(bars.clone());
        Foot { bars }
    }

    /// Shows how far a Job is, unless nobody wants to know.
    pub fn progress(&self, job: &Job, quiet: bool) -> Progress {
        let shown = match &self.bars {
            _ if quiet => Shown::Nothing,
            None => Shown::Lines { last: Instant::now(), told: String::new() },
            Some(bars) => {
                let bar = match job.spec.completions {
                    Some(count) => ProgressBar::new(u64::try_from(count).unwrap_or(0)),
                    None => ProgressBar::no_length(),
                };
                let template = match job.spec.completions {
                    Some(_) => "{spinner} [{bar:20}] {wide_msg}",
                    None => "{spinner} {wide_msg}",
                };
                let style =
                    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                Shown::Bar(bars.add(bar.with_style(style.progress_chars("=> ").tick_chars("|/-\\ "))))
            }
        };
        let mut progress = Progress {
            shown,
            name: job.metadata.name.clone(),
            counts: Counts::default(),
            rate: Rate::default(),
            trouble: None,
            trouble_was_told: false,
        };
        progress.job(job);
        progress
    }

    /// Shows a question below the progress until the answer is dropped. Without a foot it is a note.
    pub fn ask(&self, question: &str) -> Question {
        let Some(bars) = &self.bars else {
            output::note(question);
            return Question { bar: None };
        };
        let style =
            ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = bars.add(ProgressBar::no_length().with_style(style));
        bar.set_message(question.to_owned());
        bar.tick();
        Question { bar: Some(bar) }
    }
}

impl Drop for Foot {
    fn drop(&mut self) {
        output::show_at_foot(None);
        if let Some(bars) = &self.bars {
            // The terminal is gone if this fails.
            let _ = bars.clear();
        }
    }
}

/// A question that is shown.
pub struct Question {
    bar: Option<ProgressBar>,
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress {
    /// False if nobody wants to know.
    pub fn is_shown(&self) -> bool {
        !matches!(self.shown, Shown::Nothing)
    }

    /// The Job has changed.
    pub fn job(&mut self, job: &Job) {
        self.counts = Counts::of(job);
        self.rate.add(Instant::now(), self.counts.succeeded);
        self.show();
    }

    /// Time has passed; `trouble` is what keeps the servers from answering.
    pub fn tick(&mut self, trouble: Option<Trouble>) {
        self.trouble = trouble.filter(|trouble| trouble.duration >= TROUBLE_MIN);
        if let (Shown::Lines { .. }, false, Some(trouble)) =
            (&self.shown, self.trouble_was_told, &self.trouble)
        {
            output::note(&words_of_trouble(trouble));
        }
        if let (Shown::Lines { .. }, true, None) = (&self.shown, self.trouble_was_told, &self.trouble) {
            output::note("the servers answer again");
        }
        self.trouble_was_told = self.trouble.is_some();
        self.show();
    }

    fn show(&mut self) {
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                let now = Instant::now();
                let mut words = match &self.trouble {
                    Some(trouble) => paint(Stream::Stderr, Tone::Doubtful, &words_of_trouble(trouble)),
                    None => self.counts.words(|failed| paint(Stream::Stderr, Tone::Bad, failed)),
                };
                if let (None, Some(per_second)) = (&self.trouble, self.rate.per_second(now)) {
                    words.push_str(&format!(", {}", words_of_rate(per_second)));
                    let rest = self.counts.left().filter(|left| *left > 0);
                    let rest = rest.and_then(|left| words_of_rest(left, per_second));
                    words.extend(rest.into_iter().flat_map(|rest| [", ".to_owned(), rest]));
                }
                bar.set_position(self.counts.succeeded);
                bar.set_message(words);
                bar.tick();
            }
            Shown::Lines { last, told } => {
                let words = self.counts.words(str::to_owned);
                if last.elapsed() >= LINE_INTERVAL && *told != words {
                    output::note(&format!("job.batch/{}: {words}", self.name));
                    (*last, *told) = (Instant::now(), words);
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(completions: Option<i32>, succeeded: i32, failed: i32, active: i32, ready: i32) -> Job {
        let mut job = Job::default();
        job.spec.completions = completions;
        (job.status.succeeded, job.status.failed) = (succeeded, failed);
        (job.status.active, job.status.ready) = (active, Some(ready));
        job
    }

    #[test]
    fn pods_are_counted_by_what_became_of_them() {
        for (job, expected) in [
            (job(Some(10), 3, 1, 6, 4), "3/10 succeeded, 1 failed, 4 running, 2 pending"),
            (job(Some(1), 0, 0, 0, 0), "0/1 succeeded"),
            (job(None, 2, 0, 1, 1), "2 succeeded, 1 running"),
            (job(Some(-1), -1, -1, -1, 5), "0/0 succeeded, 5 running"),
        ] {
            assert_eq!(Counts::of(&job).words(str::to_owned), expected);
        }
        let mut suspended = job(Some(2), 1, 0, 0, 0);
        suspended.spec.suspend = Some(true);
        assert_eq!(Counts::of(&suspended).words(str::to_owned), "1/2 succeeded, suspended");
    }

    #[test]
    fn a_rate_is_of_the_last_minute() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut rate = Rate::default();
        rate.add(at(0), 0);
        assert_eq!(rate.per_second(at(5)), None, "nothing has succeeded");
        rate.add(at(10), 20);
        assert_eq!(rate.per_second(at(10)), Some(2.0));
        assert_eq!(rate.per_second(at(20)), Some(1.0), "waiting makes it slower");
        for second in 11..200 {
            rate.add(at(second), second * 10);
        }
        let now = rate.per_second(at(199)).unwrap();
        assert!((9.5..10.5).contains(&now), "what was slow before is forgotten: {now}");
        for number in 0..10_000 {
            rate.add(at(300), 5_000 + number);
        }
        assert!(rate.samples.len() <= RATE_SAMPLES_MAX);
    }

    #[test]
    fn what_is_guessed_is_rounded() {
        for (left, per_second, expected) in [
            (9, 2.0, Some("about 4s left")),
            (1, 100.0, Some("about 1s left")),
            (125, 1.0, Some("about 2m0s left")),
            (7_000, 0.5, Some("about 3h53m0s left")),
            (4_000_000_000, 0.001, None),
        ] {
            assert_eq!(words_of_rest(left, per_second).as_deref(), expected, "{left} {per_second}");
        }
        assert_eq!((words_of_rate(2.49), words_of_rate(0.05)), ("2.5/s".to_owned(), "3.0/min".to_owned()));
        let trouble = Trouble {
            duration: Duration::from_millis(2_900),
            kind: TroubleKind::NoLeader,
            next_address: "s2:7440".to_owned(),
        };
        assert_eq!(words_of_trouble(&trouble), "no leader for 2s, trying s2:7440");
    }
}
