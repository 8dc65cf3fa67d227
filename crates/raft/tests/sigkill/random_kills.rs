//! SIGKILL at random moments.

use crate::child::{self, Task};
use crate::model::{Found, Model, TERM};
use crate::support::Script;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

const KILLS: usize = 200;
/// Each folder is killed so often and then looked at for a last time.
const KILLS_PER_FOLDER: usize = 20;
/// One kill in so many comes while the folder is being opened, whenever that is.
const OPENING_ONE_IN: usize = 4;
/// A kill comes at the latest so long after the folder was opened.
const LOAD_MS_MAX: usize = 200;
/// And, if it shall hit the opening, so long after the process was started.
const OPENING_MS_MAX: usize = 60;
/// Far longer than opening takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process and what it says.
pub struct Watched {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watched {
    pub fn new(mut child: Child) -> Watched {
        let stdout = child.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                // Without its end it was not said: the process died within it.
                let Some(whole) = line.strip_suffix('\n') else { return };
                if sender.send(whole.to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Watched { child, lines }
    }

    /// The next line; none once the process has closed its stdout.
    pub fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the process says nothing any more"),
        }
    }

    /// Sends SIGKILL and gives everything that was said and not read yet.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it runs until it is killed");
        let status = self.child.wait().expect("it is this process's child");
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(9), "it ended by itself: {status}");
        self.lines.iter().collect()
    }

    /// Waits until it ends well; gives what was said and not read yet.
    pub fn end(mut self) -> Vec<String> {
        let lines = self.lines.iter().collect();
        let status = self.child.wait().expect("it is this process's child");
        assert!(status.success(), "it failed: {status}");
        lines
    }
}

/// What was acknowledged, over all lives of a folder.
#[derive(Default)]
struct Acknowledged {
    vote: Option<u64>,
    /// Up to which index the log must be there.
    log: Option<u64>,
    entries: u64,
    votes: u64,
    lives: u64,
}

impl Acknowledged {
    fn hear(&mut self, line: &str, model: &mut Model) {
        let (word, rest) = line.split_once(' ').expect("a word and what it is about");
        let number = || rest.parse::<u64>().expect("a number");
        match word {
            "opened" => {
                let found: Found = rest.parse().expect("a report");
                self.check(&found, model);
                self.lives += 1;
                // Whoever runs on this folder tells others what it found there: it must be there from now on.
                self.vote = found.vote;
                self.log = found.last;
            }
            "vote" => {
                assert!(self.vote < Some(number()), "votes go forward");
                self.vote = Some(number());
                self.votes += 1;
            }
            "log" => {
                let before = self.log.map_or(0, |index| index + 1);
                self.entries += (number() + 1).saturating_sub(before);
                self.log = self.log.max(Some(number()));
            }
            // It may be cut from now on.
            "cut" => self.log = self.log.min(Some(number())),
            _ => panic!("unknown line: {line:?}"),
        }
    }

    fn check(&self, found: &Found, model: &mut Model) {
        assert!(found.last >= self.log, "entries up to {:?} were acknowledged: {found:?}", self.log);
        // One vote can be on its way at a time.
        let next = Some(self.vote.map_or(TERM, |term| term + 1));
        assert!(found.vote == self.vote || found.vote == next, "voted in {:?}: {found:?}", self.vote);
        found.check(model);
    }
}

pub fn two_hundred_sigkills_under_load_lose_nothing_acknowledged() {
    let seed =
        std::env::var("STINT_TESTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |now| now.as_nanos() as u64)
        });
    println!("moments of death by STINT_TESTS_SEED={seed}");
    let mut choices = Script::new(seed);
    let mut total = Acknowledged::default();
    let mut while_opening = 0;
    for folder_number in 0..KILLS / KILLS_PER_FOLDER {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log_seed = seed ^ folder_number as u64;
        let mut model = Model::new(log_seed);
        let mut acknowledged = Acknowledged::default();
        for round in 0..KILLS_PER_FOLDER as u64 {
            let begun = Instant::now();
            let process = Watched::new(child::spawn(folder.path(), log_seed, &Task::Load { round }));
            let lives = acknowledged.lives;
            let early = choices.below(OPENING_ONE_IN) == 0;
            let until = if early {
                begun + Duration::from_millis(choices.below(OPENING_MS_MAX) as u64)
            } else {
                let opened = process.next_line().expect("it opens");
                acknowledged.hear(&opened, &mut model);
                Instant::now() + Duration::from_millis(choices.below(LOAD_MS_MAX) as u64)
            };
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            for line in process.kill() {
                acknowledged.hear(&line, &mut model);
            }
            while_opening += usize::from(acknowledged.lives == lives);
        }
        let process = Watched::new(child::spawn(folder.path(), log_seed, &Task::Look));
        for line in process.end() {
            acknowledged.hear(&line, &mut model);
        }
        total.entries += acknowledged.entries;
        total.votes += acknowledged.votes;
        total.lives += acknowledged.lives;
    }
    println!(
        "{KILLS} kills, {while_opening} of them before the folder was open: {} entries and {} votes acknowledged, none lost",
        total.entries, total.votes
    );
    // Otherwise this has shown nothing.
    assert!(total.entries >= KILLS as u64 && total.votes >= 20, "too little load");
    assert!(total.lives as usize >= KILLS / 2, "too few lives");
}
