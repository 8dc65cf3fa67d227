//! The replicated state machine: job controller, scheduler, node lifecycle, timers.
