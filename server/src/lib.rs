//! The relay. `Relay::turn` is the whole of it: a function from state, time and calls to effects. Everything
//! that touches a socket or a disk is a shell around it.

pub mod log;
pub mod store;
