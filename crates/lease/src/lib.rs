//! Leases and sessions between agents and servers, as pure state machines.
