//! Limits of the relay's shell that are not the protocol's: what strangers may make it do before they have shown a
//! right. Those of the protocol are in `martlet_proto::limits`.

/// Handshakes under way beyond which everybody must show their address first.
pub const HANDSHAKES_FREE: u64 = 256;
/// Seconds that a handshake may take.
pub const HANDSHAKE_SECS_MAX: u64 = 10;

/// Cells of one row of the sums by source. A cell is 24 bytes, and there are two rows.
pub const SOURCE_CELLS: usize = 8192;
/// Seconds after which the sums of a source are halved.
pub const SOURCE_HALF_LIFE_SECS: u64 = 60;
/// Attempts from a source, faded, beyond which it must show its address first.
pub const SOURCE_UNSHOWN_MAX: u32 = 64;
/// Attempts from a source that showed its address, faded, beyond which it is refused: a whole office whose cases are
/// each on a connection of their own may come back at once after the relay was restarted.
pub const SOURCE_SHOWN_MAX: u32 = 1024;
/// The part of all places for connections that one source may have while more than half of them are taken.
pub const SOURCE_SHARE: u64 = 8;
