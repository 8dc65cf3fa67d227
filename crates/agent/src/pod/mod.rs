//! One Pod on this node.
//!
//! Owns: the machine that says what is done for it and when, the task that does it, what it is for a runtime. Does not own:
//! which Pods there are, the lease, the journal.

mod actions;
mod disk;
mod ends;
mod hosts;
mod judgement;
mod last_words;
mod machine;
mod notices;
mod plan;
mod probes;
mod spans;
mod specs;
mod task;
mod template;
mod volumes;

pub use ends::{shortened, unknown as unknown_end};
pub use judgement::Rules;
pub use last_words::take_over as take_over_last_words;
pub use machine::RunEnd;
pub use specs::termination_file;
pub use task::{Ended, LeftPod, News, PodHandle, PodNews, PodOrder, Surroundings};
pub use template::PodTemplate;
pub use volumes::remove_trees;
