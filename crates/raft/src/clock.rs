//! The cluster's time (decision 2): what the leader stamps on every entry.
//!
//! Owns: state time as a pure function of injected readings, what is known of other members' clocks, the two clocks of
//! this machine. Does not own: due times (core), leases (crate `lease`), who is the leader.
//!
//! Invariants: within a term, state time never goes backwards and differs in rate from CLOCK_BOOTTIME by at most 10 %;
//! a wall clock that most members contradict moves nothing.

use std::collections::BTreeMap;

use nix::time::{ClockId, clock_gettime};
use stint_api::{MemberId, Timestamp};

use crate::limits::{CLOCK_ALARM_MS, CLOCK_SLEW_DIVISOR, CLOCK_TRUST_MS};

/// What this machine's clocks show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReadings {
    /// CLOCK_BOOTTIME in milliseconds: never set, counts on while the machine is suspended.
    pub boot_ms: i64,
    /// Wall clock, in milliseconds since 1970.
    pub wall_ms: i64,
}

/// Something about time that a person should look at; shown by `status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockAlarm {
    /// The leader's wall clock is far from those of most members.
    #[error(
        "the leader's wall clock is more than {CLOCK_TRUST_MS} ms away from those of most members: cluster time goes \
         on without it; mend the clocks (NTP)"
    )]
    Contradicted,
    /// Cluster time and wall time are far apart.
    #[error(
        "cluster time is {ahead_ms} ms ahead of the leader's wall clock (negative: behind); it is drawn near by at most \
         10 %"
    )]
    FarFromWall {
        /// State time minus wall time.
        ahead_ms: i64,
    },
}

/// Other members' wall clocks, as offsets from this machine's CLOCK_BOOTTIME, so that a jump of our own wall clock does
/// not disturb them.
#[derive(Debug, Default)]
pub struct PeerClocks {
    offsets_ms: BTreeMap<MemberId, i64>,
}

/// State time of one leader. Asked for with injected readings; holds no clock.
#[derive(Debug, Default)]
pub struct StateClock {
    term: Option<TermClock>,
    alarm: Option<ClockAlarm>,
}

#[derive(Debug, Clone, Copy)]
struct TermClock {
    term: u64,
    boot_ms: i64,
    state_ms: i64,
}

/// What [`StateClock::read`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTime {
    /// The time of the next entry.
    pub time: Timestamp,
    /// Milliseconds by which wall time was adopted forward at the start of the term; 0 if it was not.
    pub adopted_ms: i64,
}

impl ClockReadings {
    /// Reads the two clocks.
    pub fn now() -> ClockReadings {
        ClockReadings { boot_ms: read(ClockId::CLOCK_BOOTTIME), wall_ms: read(ClockId::CLOCK_REALTIME) }
    }
}

impl PeerClocks {
    /// Notes what a member's wall clock showed when this machine's clocks showed `here`.
    pub fn note(&mut self, member: MemberId, peer_wall_ms: i64, here: ClockReadings) {
        self.offsets_ms.insert(member, peer_wall_ms.saturating_sub(here.boot_ms));
    }

    /// Forgets members that are gone.
    pub fn retain(&mut self, is_member: impl Fn(MemberId) -> bool) {
        self.offsets_ms.retain(|member, _| is_member(*member));
    }

    /// True if the wall clocks of a majority of `voters`, this server's included, are within 30 s of this server's.
    pub fn trusted(&self, own: MemberId, voters: &[MemberId], here: ClockReadings) -> bool {
        let agreeing = voters
            .iter()
            .filter(|voter| {
                **voter == own
                    || self.offsets_ms.get(voter).is_some_and(|offset| {
                        let theirs = here.boot_ms.saturating_add(*offset);
                        theirs.saturating_sub(here.wall_ms).saturating_abs() <= CLOCK_TRUST_MS
                    })
            })
            .count();
        agreeing > voters.len() / 2
    }
}

impl StateClock {
    /// The time for an entry of `term`. `last` is the state's time after all entries of earlier terms; `trusted` says
    /// whether wall time counts.
    pub fn read(&mut self, term: u64, last: Timestamp, trusted: bool, here: ClockReadings) -> StateTime {
        let mut adopted_ms = 0;
        let state_ms = match &self.term {
            Some(base) if base.term == term => {
                let elapsed_ms = here.boot_ms.saturating_sub(base.boot_ms).max(0);
                let straight_ms = base.state_ms.saturating_add(elapsed_ms);
                let slew_max_ms = elapsed_ms / CLOCK_SLEW_DIVISOR;
                let slew_ms = if trusted {
                    here.wall_ms.saturating_sub(straight_ms).clamp(-slew_max_ms, slew_max_ms)
                } else {
                    0
                };
                if slew_ms == 0 && slew_max_ms == 0 {
                    // Too short a step to slew: the base stays, or slewing would never happen under load.
                    self.note_alarm(straight_ms, trusted, here);
                    return StateTime { time: Timestamp(straight_ms), adopted_ms };
                }
                straight_ms.saturating_add(slew_ms)
            }
            _ => {
                if trusted && here.wall_ms > last.0 {
                    adopted_ms = here.wall_ms.saturating_sub(last.0);
                    here.wall_ms
                } else {
                    last.0
                }
            }
        };
        self.term = Some(TermClock { term, boot_ms: here.boot_ms, state_ms });
        self.note_alarm(state_ms, trusted, here);
        StateTime { time: Timestamp(state_ms), adopted_ms }
    }

    /// What was wrong at the last reading.
    pub fn alarm(&self) -> Option<&ClockAlarm> {
        self.alarm.as_ref()
    }

    /// Leadership is gone: the next term starts afresh.
    pub fn forget_term(&mut self) {
        self.term = None;
        self.alarm = None;
    }

    fn note_alarm(&mut self, state_ms: i64, trusted: bool, here: ClockReadings) {
        let ahead_ms = state_ms.saturating_sub(here.wall_ms);
        self.alarm = if !trusted {
            Some(ClockAlarm::Contradicted)
        } else if ahead_ms.saturating_abs() > CLOCK_ALARM_MS {
            Some(ClockAlarm::FarFromWall { ahead_ms })
        } else {
            None
        };
    }
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every Linux that stint runs on; 0 only keeps time standing, it breaks nothing.
    clock_gettime(clock)
        .map_or(0, |time| time.tv_sec().saturating_mul(1_000).saturating_add(time.tv_nsec() / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_YEARS_MS: i64 = 10 * 365 * 86_400 * 1_000;
    const WALL: i64 = 1_790_000_000_000;

    fn at(boot_ms: i64, wall_ms: i64) -> ClockReadings {
        ClockReadings { boot_ms, wall_ms }
    }

    #[test]
    fn a_new_cluster_adopts_wall_time() {
        let mut clock = StateClock::default();
        let first = clock.read(1, Timestamp(0), true, at(5_000, WALL));
        assert_eq!(first, StateTime { time: Timestamp(WALL), adopted_ms: WALL });
        assert_eq!(clock.alarm(), None);
    }

    #[test]
    fn time_advances_with_boottime() {
        let mut clock = StateClock::default();
        clock.read(1, Timestamp(0), true, at(0, WALL));
        assert_eq!(clock.read(1, Timestamp(WALL), true, at(700, WALL + 700)).time, Timestamp(WALL + 700));
    }

    #[test]
    fn a_wall_clock_that_jumps_ten_years_ahead_slews_by_a_tenth_at_most() {
        let mut clock = StateClock::default();
        clock.read(1, Timestamp(0), true, at(0, WALL));
        let jumped = clock.read(1, Timestamp(WALL), true, at(1_000, WALL + TEN_YEARS_MS));
        assert_eq!(jumped.time, Timestamp(WALL + 1_100));
        assert!(matches!(clock.alarm(), Some(ClockAlarm::FarFromWall { .. })));
    }

    #[test]
    fn a_wall_clock_that_jumps_back_freezes_nothing() {
        let mut clock = StateClock::default();
        clock.read(1, Timestamp(0), true, at(0, WALL));
        let jumped = clock.read(1, Timestamp(WALL), true, at(1_000, WALL - TEN_YEARS_MS));
        assert_eq!(jumped.time, Timestamp(WALL + 900));
    }

    #[test]
    fn a_contradicted_wall_clock_moves_nothing() {
        let mut clock = StateClock::default();
        let first = clock.read(3, Timestamp(WALL), false, at(0, WALL + TEN_YEARS_MS));
        assert_eq!(first, StateTime { time: Timestamp(WALL), adopted_ms: 0 });
        let second = clock.read(3, Timestamp(WALL), false, at(1_000, WALL + TEN_YEARS_MS));
        assert_eq!(second.time, Timestamp(WALL + 1_000));
        assert_eq!(clock.alarm(), Some(&ClockAlarm::Contradicted));
    }

    #[test]
    fn a_new_term_never_goes_back() {
        let mut clock = StateClock::default();
        clock.read(1, Timestamp(0), true, at(0, WALL));
        let next = clock.read(2, Timestamp(WALL + 60_000), true, at(1_000, WALL + 1_000));
        assert_eq!(next, StateTime { time: Timestamp(WALL + 60_000), adopted_ms: 0 });
        assert!(matches!(clock.alarm(), Some(ClockAlarm::FarFromWall { .. })));
    }

    #[test]
    fn frequent_readings_slew_as_much_as_rare_ones() {
        let (mut frequent, mut rare) = (StateClock::default(), StateClock::default());
        frequent.read(1, Timestamp(0), true, at(0, WALL));
        rare.read(1, Timestamp(0), true, at(0, WALL));
        let mut last = Timestamp(0);
        for boot_ms in 1..=1_000 {
            let now = frequent.read(1, Timestamp(WALL), true, at(boot_ms, WALL + 60_000 + boot_ms)).time;
            assert!(now >= last, "went back from {last:?} to {now:?}");
            last = now;
        }
        assert_eq!(last, rare.read(1, Timestamp(WALL), true, at(1_000, WALL + 61_000)).time);
    }

    #[test]
    fn a_majority_within_thirty_seconds_is_trusted() {
        let voters = [MemberId(1), MemberId(2), MemberId(3)];
        let mut clocks = PeerClocks::default();
        let here = at(1_000, WALL);
        assert!(!clocks.trusted(MemberId(1), &voters, here), "nobody is known yet");
        clocks.note(MemberId(2), WALL + 31_000, here);
        clocks.note(MemberId(3), WALL - 31_000, here);
        assert!(!clocks.trusted(MemberId(1), &voters, here));
        clocks.note(MemberId(3), WALL - 29_000, here);
        assert!(clocks.trusted(MemberId(1), &voters, here));
        // Our own clock jumps later: what is known of the others contradicts it.
        assert!(!clocks.trusted(MemberId(1), &voters, at(2_000, WALL + TEN_YEARS_MS)));
        assert!(clocks.trusted(MemberId(1), &[MemberId(1)], here), "a single server trusts itself");
    }

    #[test]
    fn this_machine_has_both_clocks() {
        let readings = ClockReadings::now();
        assert!(readings.boot_ms > 0 && readings.wall_ms > 1_600_000_000_000, "{readings:?}");
    }
}
