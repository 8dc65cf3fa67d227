//! Containers' output as it is kept, wherever it is: entries, what readers select of them, excerpts.
//!
//! Owns: the format of entries (CRI logging), choosing lines by number, time and stream, giving back what the payload wrote,
//! excerpts and their compression, the archive of whole logs (feature `archive`). Does not own: files on a node (crate `runtime`), who may read, when anything is shipped.
//!
//! Invariants: nothing here but the archive does IO, and nothing reads a clock; what is not an entry is passed over, never an error; an *offset* counts
//! the bytes of entries since a log's beginning, wherever its pieces are kept.

#[cfg(feature = "archive")]
pub mod archive;
mod entry;
mod error;
mod excerpt;
pub mod limits;
mod selection;

pub use entry::{Entry, Stream, format_time, normal_time, parse_time};
pub use error::Error;
pub use excerpt::{Excerpt, Piece};
pub use selection::{Renderer, Selection, Step, TailCounter};
