//! The server process: proposer, watches, agent sessions, services, forwarding.
