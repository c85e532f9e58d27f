//! How much each network asks of the relay: sums in memory that fade, and no addresses.
//!
//! A source is a /24 of IPv4 or a /56 of IPv6: what one household or attacker commonly has. It is known by a hash under
//! a random key that lives as long as the process, and only as the cells that it adds to; each cell is shared by many
//! sources, of two rows the lower sum counts. So the table has a fixed size, nobody can choose with whom to share, and
//! there is no list of who was here.
//!
//! An address that has not been shown may be another's: it is never refused for what came from it, but asked to show
//! itself, which costs one more round. Loopback is not counted: it is the operator, or an onion service behind which
//! everybody is.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    time::Duration,
};

use crate::limits::{
    HANDSHAKES_FREE, SOURCE_CELLS, SOURCE_HALF_LIFE_SECS, SOURCE_SHARE, SOURCE_SHOWN_MAX, SOURCE_UNSHOWN_MAX,
};

const ROWS: usize = 2;

/// How full the relay is when somebody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crowd {
    /// Handshakes under way.
    pub(super) shaking: u64,
    /// Connections that are held.
    pub(super) connections: u64,
    /// The most that may be.
    pub(super) connections_max: u64,
}

/// Whether an address was shown to be the sender's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Shown,
    Unshown,
}

/// What happens to somebody who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They may shake hands.
    Welcome,
    /// They have to show their address first.
    Show,
    /// Not now.
    Refuse,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    unshown: u32,
    shown: u32,
    held: u32,
    faded_at: u64,
}

/// The sums.
pub(super) struct Sources {
    key: RandomState,
    cells: Vec<Cell>,
}

/// The cells of a source, for as long as it holds a connection.
#[derive(Clone, Copy)]
pub(super) struct Place(Option<[usize; ROWS]>);

impl Sources {
    /// Empty, under a fresh key.
    pub(super) fn new() -> Self {
        Self {
            key: RandomState::new(),
            cells: vec![Cell::default(); SOURCE_CELLS.saturating_mul(ROWS)],
        }
    }

    /// Where a source's sums are; loopback has none.
    pub(super) fn place(&self, address: IpAddr) -> Place {
        let prefix = match address.to_canonical() {
            ip if ip.is_loopback() => return Place(None),
            IpAddr::V4(ip) => u64::from(ip.to_bits() >> 8),
            // The highest bit tells the families apart.
            IpAddr::V6(ip) => (u64::try_from(ip.to_bits() >> 64).unwrap_or(0) & !0xff) | 1 << 63,
        };
        let mut rows = [0; ROWS];
        for (row, cell) in rows.iter_mut().enumerate() {
            let hash = self.key.hash_one((row, prefix));
            let within = hash
                .checked_rem(u64::try_from(SOURCE_CELLS).unwrap_or(1))
                .unwrap_or(0);
            let before = row.saturating_mul(SOURCE_CELLS);
            *cell = before.saturating_add(usize::try_from(within).unwrap_or(0));
        }
        Place(Some(rows))
    }

    /// Somebody comes. `uptime` is how long the relay runs.
    pub(super) fn come(&mut self, uptime: Duration, place: Place, address: Address, crowd: Crowd) -> Verdict {
        let full = crowd.connections.saturating_add(crowd.shaking) >= crowd.connections_max;
        if full {
            return Verdict::Refuse;
        }
        let busy = crowd.shaking >= HANDSHAKES_FREE;
        let sums = self.add(uptime, place, address);
        let crowded = crowd.connections.saturating_mul(2) >= crowd.connections_max;
        let share = crowd
            .connections_max
            .checked_div(SOURCE_SHARE)
            .unwrap_or(0)
            .max(1);
        let greedy = crowded && u64::from(sums.held) >= share;
        match address {
            Address::Unshown if busy || greedy || sums.unshown > SOURCE_UNSHOWN_MAX => Verdict::Show,
            Address::Shown if greedy || sums.shown > SOURCE_SHOWN_MAX => Verdict::Refuse,
            Address::Unshown | Address::Shown => Verdict::Welcome,
        }
    }

    /// A handshake is done: a connection is held.
    pub(super) fn hold(&mut self, place: Place) {
        self.each(place, |cell| cell.held = cell.held.saturating_add(1));
    }

    /// A connection that was held is over.
    pub(super) fn release(&mut self, place: Place) {
        self.each(place, |cell| cell.held = cell.held.saturating_sub(1));
    }

    /// Adds one to the sums of a source; the lower of them, cell by cell.
    fn add(&mut self, uptime: Duration, place: Place, address: Address) -> Cell {
        let now = uptime.as_secs().checked_div(SOURCE_HALF_LIFE_SECS).unwrap_or(0);
        let mut least: Option<Cell> = None;
        self.each(place, |cell| {
            let halvings = u32::try_from(now.saturating_sub(cell.faded_at)).unwrap_or(u32::MAX);
            cell.unshown = cell.unshown.checked_shr(halvings).unwrap_or(0);
            cell.shown = cell.shown.checked_shr(halvings).unwrap_or(0);
            cell.faded_at = now;
            match address {
                Address::Unshown => cell.unshown = cell.unshown.saturating_add(1),
                Address::Shown => cell.shown = cell.shown.saturating_add(1),
            }
            least = Some(match least {
                None => *cell,
                Some(least) => Cell {
                    unshown: least.unshown.min(cell.unshown),
                    shown: least.shown.min(cell.shown),
                    held: least.held.min(cell.held),
                    faded_at: now,
                },
            });
        });
        least.unwrap_or_default()
    }

    fn each(&mut self, place: Place, mut change: impl FnMut(&mut Cell)) {
        for at in place.0.into_iter().flatten() {
            if let Some(cell) = self.cells.get_mut(at) {
                change(cell);
            }
        }
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources(..)")
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests count on small numbers")]
mod tests {
    use super::*;

    const QUIET: Crowd = Crowd {
        shaking: 0,
        connections: 0,
        connections_max: 10_000,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn come(sources: &mut Sources, secs: u64, from: &str, address: Address, crowd: Crowd) -> Verdict {
        let place = sources.place(ip(from));
        sources.come(Duration::from_secs(secs), place, address, crowd)
    }

    #[test]
    fn a_network_that_asks_too_much_shows_itself_and_then_waits_and_is_forgiven() {
        let mut sources = Sources::new();
        for _ in 0..SOURCE_UNSHOWN_MAX {
            let verdict = come(&mut sources, 0, "192.0.2.7", Address::Unshown, QUIET);
            assert_eq!(verdict, Verdict::Welcome);
        }
        // The whole /24, and nobody else.
        let mut unshown = |from| come(&mut sources, 0, from, Address::Unshown, QUIET);
        assert_eq!(unshown("192.0.2.200"), Verdict::Show);
        assert_eq!(unshown("::ffff:192.0.2.200"), Verdict::Show);
        assert_eq!(unshown("192.0.3.7"), Verdict::Welcome);
        for _ in 0..SOURCE_SHOWN_MAX {
            let verdict = come(&mut sources, 0, "192.0.2.7", Address::Shown, QUIET);
            assert_eq!(verdict, Verdict::Welcome);
        }
        assert_eq!(
            come(&mut sources, 0, "192.0.2.8", Address::Shown, QUIET),
            Verdict::Refuse
        );
        assert_eq!(
            come(&mut sources, 0, "198.51.100.1", Address::Shown, QUIET),
            Verdict::Welcome
        );
        let later = SOURCE_HALF_LIFE_SECS * 2;
        assert_eq!(
            come(&mut sources, later, "192.0.2.8", Address::Shown, QUIET),
            Verdict::Welcome
        );
    }

    #[test]
    fn nobody_is_refused_for_packets_in_their_name() {
        let mut sources = Sources::new();
        for _ in 0..SOURCE_SHOWN_MAX * 4 {
            let verdict = come(&mut sources, 0, "2001:db8::1", Address::Unshown, QUIET);
            assert_ne!(verdict, Verdict::Refuse);
        }
        assert_eq!(
            come(&mut sources, 0, "2001:db8::1", Address::Shown, QUIET),
            Verdict::Welcome
        );
    }

    #[test]
    fn of_a_crowded_relay_one_network_has_a_share() {
        let mut sources = Sources::new();
        let crowd = Crowd {
            connections: 5_000,
            ..QUIET
        };
        let place = sources.place(ip("2001:db8:0:ff::1"));
        for _ in 0..10_000 / SOURCE_SHARE {
            sources.hold(place);
        }
        let mut shown = |from, crowd| come(&mut sources, 0, from, Address::Shown, crowd);
        assert_eq!(shown("2001:db8:0:0::2", crowd), Verdict::Refuse, "the same /56");
        assert_eq!(shown("2001:db8:0:100::1", crowd), Verdict::Welcome, "another /56");
        assert_eq!(
            shown("2001:db8:0:0::2", QUIET),
            Verdict::Welcome,
            "there is room for all"
        );
        sources.release(place);
        assert_eq!(
            come(&mut sources, 0, "2001:db8::2", Address::Shown, crowd),
            Verdict::Welcome
        );
        let full = Crowd {
            connections: 10_000,
            ..QUIET
        };
        assert_eq!(
            come(&mut sources, 0, "127.0.0.1", Address::Shown, full),
            Verdict::Refuse
        );
    }

    #[test]
    fn the_operator_and_onion_services_are_not_counted() {
        let mut sources = Sources::new();
        for _ in 0..SOURCE_SHOWN_MAX * 2 {
            let verdict = come(&mut sources, 0, "::1", Address::Shown, QUIET);
            assert_eq!(verdict, Verdict::Welcome);
        }
    }

    #[test]
    fn a_flood_from_a_thousand_networks_leaves_nearly_all_others_welcome() {
        let mut sources = Sources::new();
        for network in 0..1000u32 {
            let from = std::net::Ipv4Addr::from_bits(0x0a00_0000 | network << 8).to_string();
            for _ in 0..SOURCE_SHOWN_MAX + 1 {
                come(&mut sources, 0, &from, Address::Shown, QUIET);
            }
        }
        let refused = (0..1000u32)
            .filter(|network| {
                let from = std::net::Ipv4Addr::from_bits(0xc600_0000 | network << 8).to_string();
                come(&mut sources, 0, &from, Address::Shown, QUIET) == Verdict::Refuse
            })
            .count();
        assert!(refused < 50, "{refused} of 1000 share both cells with the flood");
    }
}
