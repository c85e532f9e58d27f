//! The rules of one log: who may, what fits, how long it lives. Pure. SPEC.md, sections 2 to 4.

use martlet_proto::{
    Bearer, ChannelId, Class, Day, Envelope, Incarnation, Kind, Refusal, Rights, Seq, TokenHash,
    call::{Item, Placed, Tip},
    limits::{CASE_ENTRY_DAYS, CASE_KEPT_DAYS, FILE_DAYS, INBOX_DAYS, KEEPER_RESERVE_BYTES, quota_bytes},
    log::Digest,
};

use crate::log::{Hand, Log, Mark, Presence, Step};

/// The most entries that a channel ever has: each costs memory, whether its envelope is kept or not.
const ENTRIES_MAX: u64 = 1 << 20;

/// Whether a token proves a right here. Compares in constant time.
pub fn admits(log: &Log, right: Rights, bearer: &Bearer) -> bool {
    let hash: TokenHash = bearer.hash();
    hash == match right {
        Rights::Read => log.record.read,
        Rights::Write => log.record.write,
        Rights::Keep => log.record.keep,
    }
}

/// Until when a channel lives that is opened or renewed today.
pub fn record_expires(class: Class, today: Day) -> Day {
    today.plus(match class {
        Class::Case => CASE_KEPT_DAYS,
        Class::Inbox | Class::Card => INBOX_DAYS,
        Class::File => FILE_DAYS,
    })
}

/// Until when an entry lives that is placed today: all but ordinary entries of cases live as long as their channel.
fn entry_expires(class: Class, by: Hand, today: Day) -> Day {
    match (class, by) {
        (Class::Case, Hand::Writer) => today.plus(CASE_ENTRY_DAYS),
        (Class::Case, Hand::Keeper) | (Class::Inbox | Class::Card | Class::File, _) => Day(u32::MAX),
    }
}

/// Whether an entry's envelope may still be shown.
pub fn is_here(mark: &Mark, today: Day) -> bool {
    mark.presence == Presence::Here && mark.expires > today
}

/// The log's state, as it is told.
pub fn tip(log: &Log) -> Tip {
    Tip {
        incarnation: log.life(),
        next: log.next(),
        head: log.head,
        sealed: log.sealed,
        expires: log.record.expires,
    }
}

/// What adding some envelopes would do.
pub enum Adding {
    /// They are there already: the same names and bytes.
    Known(Placed),
    /// These steps add them.
    Steps(Vec<Step>),
}

/// Decides on an `append` or a `seal`.
///
/// # Errors
///
/// The refusal to tell. SPEC.md 4.3 has the order in which they are looked for.
pub fn add(
    channel: &ChannelId,
    log: &Log,
    by: Hand,
    within: Option<Incarnation>,
    items: &[Item],
    today: Day,
) -> Result<Adding, Refusal> {
    if within.is_some_and(|within| within != log.life()) {
        return Err(Refusal::OtherIncarnation);
    }
    let digests: Vec<Digest> = items.iter().map(|item| Digest::of(&item.envelope)).collect();
    if let Some(placed) = known(channel, log, items, &digests)? {
        return Ok(Adding::Known(placed));
    }
    if log.sealed && by == Hand::Writer {
        return Err(Refusal::Sealed);
    }
    if !items.iter().all(|item| allowed(log.record.class, by, item.kind)) {
        return Err(Refusal::NotHere);
    }
    within_quota(log, by, items)?;
    let mut seq = log.next();
    let mut steps = Vec::with_capacity(items.len());
    for (item, digest) in items.iter().zip(digests) {
        steps.push(Step::Placed {
            incarnation: log.record.incarnation,
            seq,
            kind: item.kind,
            id: item.id,
            digest,
            expires: entry_expires(log.record.class, by, today),
            by,
            envelope: Envelope::clone(&item.envelope),
        });
        seq = seq.next().ok_or(Refusal::Quota)?;
    }
    if by == Hand::Keeper {
        steps.push(Step::Renewed(record_expires(log.record.class, today)));
    }
    Ok(Adding::Steps(steps))
}

/// Where a group stands that was added before; a refusal if only part of it was, or other bytes under its names.
fn known(
    channel: &ChannelId,
    log: &Log,
    items: &[Item],
    digests: &[Digest],
) -> Result<Option<Placed>, Refusal> {
    let Some(at) = items.first().and_then(|first| log.find(&first.id)) else {
        let clash = |(index, item): (usize, &Item)| {
            log.find(&item.id).is_some() || items.iter().take(index).any(|other| other.id == item.id)
        };
        return if items.iter().enumerate().any(clash) {
            Err(Refusal::Conflict)
        } else {
            Ok(None)
        };
    };
    let start = usize::try_from(at.as_u64()).map_err(|_| Refusal::Conflict)?;
    let there = log.marks.get(start..).unwrap_or_default();
    let same = |((item, digest), mark): ((&Item, &Digest), &Mark)| {
        mark.id == item.id && mark.digest == *digest && mark.kind == item.kind
    };
    if there.len() < items.len() || !items.iter().zip(digests).zip(there).all(same) {
        return Err(Refusal::Conflict);
    }
    let end = u64::try_from(start.saturating_add(items.len())).map_err(|_| Refusal::Conflict)?;
    let head = log.head_at(channel, Seq::new(end)).ok_or(Refusal::Conflict)?;
    Ok(Some(Placed {
        incarnation: log.life(),
        first: at,
        head,
    }))
}

fn allowed(class: Class, by: Hand, kind: Kind) -> bool {
    match (class, kind) {
        (Class::Case, Kind::Letter) => true,
        (Class::Case, Kind::Commit) => by == Hand::Keeper,
        (Class::Inbox, Kind::Packet) | (Class::File, Kind::Chunk) | (Class::Card, Kind::Card) => {
            by == Hand::Writer
        }
        _ => false,
    }
}

fn within_quota(log: &Log, by: Hand, items: &[Item]) -> Result<(), Refusal> {
    let new = items
        .iter()
        .map(|item| item.envelope.size_bytes() as u64)
        .fold(0, u64::saturating_add);
    let reserve = match (log.record.class, by) {
        (Class::Case, Hand::Writer) => KEEPER_RESERVE_BYTES,
        _ => 0,
    };
    let room = quota_bytes(log.record.class).saturating_sub(reserve);
    let entries = log.next().as_u64().saturating_add(items.len() as u64);
    if log.held_bytes().saturating_add(new) > room || entries > ENTRIES_MAX {
        return Err(Refusal::Quota);
    }
    Ok(())
}
