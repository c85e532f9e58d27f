//! One case: an MLS group, a chain of epoch channels, and the rules that keep it from getting stuck. SPEC.md 10. Pure.
//!
//! The shell asks [`next`](Case::next) what to ask of the relay, makes the batch it gets durable, asks, and hands the
//! answer to [`answered`](Case::answered), whose batch it makes durable before anything else. Killed between any two
//! of these steps, a case goes on from what the vault holds: letters and commits are sent again with identical bytes.

mod begin;
mod commit;
mod devices;
pub mod drawer;
mod epoch;
mod history;
mod homes;
mod judge;
mod letters;
mod members;
mod plan;
mod read;
pub mod recovery;
pub mod rescue;
mod retention;
mod send;
mod show;
mod tend;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use martlet_proto::{
    Admission, Answer, Bind, Call, ChannelId, Class, Grant, Keeper, Open, Reader, Refusal, Time, Token,
    TokenHash, Writer,
    card::Mailbox,
    case::{CaseContext, RescueSeeds, Role},
    derive::EpochKeys,
    device::Joining,
    letter::LetterId,
    link::RelayAddress,
};

use self::{
    drawer::{Drawers, Row},
    retention::Keeping,
};
use crate::{
    entropy::Entropy,
    error::Error,
    me::Me,
    mls::Group,
    record::{
        CaseKeys, CaseRecord, LetterRecord, MemberRecord, OutRecord, PendingCommit, RescueRecord, decode,
        encode,
    },
    vault::{Batch, Name, Table},
    view::{Event, Warning},
};

/// Positions of the log whose heads are kept, to be held against what letters say.
const HEADS_KEPT: usize = 64;

/// Mailboxes that are opened for one case in one round: more of them means a relay that plays games.
const OPENINGS_MAX: u32 = 100;
/// Offered key packages whose private halves are kept: an answer may come to an older one.
const PACKAGES_KEPT: usize = 3;

/// A case in memory.
pub struct Case {
    index: u64,
    record: CaseRecord,
    group: Group,
    keep: Option<Token<Keeper>>,
    pending: Option<PendingCommit>,
    packages: Vec<Vec<u8>>,
    epoch: Epoch,
    letters: BTreeMap<u64, LetterRecord>,
    by_id: BTreeMap<LetterId, u64>,
    outbox: BTreeMap<u64, OutRecord>,
    keeping: Keeping,
    round: Round,
}

/// What is known until the case is looked at anew.
#[derive(Default)]
struct Round {
    /// Everything the relay had when it was last asked was read.
    caught_up: bool,
    /// The epoch's channel must be opened before anything else.
    must_open: bool,
    /// The mailbox that is closed and must be opened first.
    closed: Option<ChannelId>,
    /// How often mailboxes were opened.
    openings: u32,
    /// A packet was refused: the rest of the case does not wait for it.
    packet_refused: bool,
    /// What time brings was done: letters sent again, a beat, a refresh.
    tended: bool,
    /// The answers to this device's asking were read.
    answers_read: bool,
    /// Whether the own request is to be placed again, which is at the relay unless its channel expired.
    ask_again: bool,
    /// Members whose asking is still to be read.
    asks_unread: Vec<[u8; 32]>,
    /// The commit that waits for the next epoch's channel to be opened.
    draft: Option<commit::Draft>,
}

/// What follows from the group's present epoch.
struct Epoch {
    context: CaseContext,
    keys: EpochKeys,
    channel: ChannelId,
}

impl Epoch {
    fn of(group: &Group) -> Result<Self, Error> {
        let context = parse_context(&group.context().map_err(internal)?)?;
        let keys = EpochKeys::derive(&group.epoch_secret().map_err(internal)?);
        let channel = keys.channel(&context.keep);
        Ok(Self {
            context,
            keys,
            channel,
        })
    }

    fn reader(&self) -> Grant<Reader> {
        Grant {
            channel: self.channel,
            token: self.keys.read.clone(),
        }
    }

    fn writer(&self) -> Grant<Writer> {
        Grant {
            channel: self.channel,
            token: self.keys.write.clone(),
        }
    }

    /// The call that opens the channel.
    fn open(&self, admission: Option<&Admission>) -> Call {
        let open = Open {
            class: Class::Case,
            read: self.keys.read.hash(),
            keep: self.context.keep,
            bind: Bind::NONE,
            admission: admission.cloned(),
        };
        Call::new(&self.writer(), open)
    }
}

/// What a call was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Opening a mailbox.
    OpenMailbox(ChannelId),
    /// Bringing a packet to a mailbox: the item of the outbox.
    Packet(u64),
    /// Opening the epoch's channel.
    Open,
    /// Reading on.
    Read,
    /// Sending letters: the items of the outbox.
    Letters(Vec<u64>),
    /// Opening the channel of the epoch that a commit of one's own leads to.
    Draft,
    /// Sending a commit of one's own.
    Commit,
    /// Asking counsel to be taken in again.
    Ask,
    /// Reading what counsel answered.
    Answers,
    /// Reading what this member asks.
    Asks([u8; 32]),
}

/// What to do next: make the batch durable, then make the call.
pub struct Next {
    /// What must be durable before the call.
    pub batch: Batch,
    /// The call.
    pub call: Call,
    /// What it is for: goes back into [`Case::answered`].
    pub purpose: Purpose,
    /// Where it goes, if not to the relay where the case is: if that one is out of reach, [`Case::stay`].
    pub relay: Option<RelayAddress>,
}

impl Next {
    /// A call for which nothing must be durable before.
    fn new(call: Call, purpose: Purpose) -> Self {
        Self {
            batch: Batch::default(),
            call,
            purpose,
            relay: None,
        }
    }
}

/// What followed from an answer: make the batch durable before anything else, then tell the events.
#[derive(Default)]
pub struct Turn {
    /// What must be durable.
    pub batch: Batch,
    /// What happened.
    pub events: Vec<Event>,
    /// What further devices of the owner are to be told: by leaf key.
    pub parcels: Vec<([u8; 32], Joining)>,
}

fn internal(_: crate::mls::MlsError) -> Error {
    Error::Internal("the group cannot be used")
}

/// The record's name in the vault.
pub fn record_name(index: u64) -> Name {
    Name::new(Table::Cases, [0; 16], index)
}

/// The name of a case's ratchet state in the vault.
pub fn ratchet_name(id: &[u8; 16]) -> Vec<u8> {
    [b"case ", id.as_slice()].concat()
}

fn parse_context(bytes: &[u8]) -> Result<CaseContext, Error> {
    let malformed = Error::Protocol("the case's context is malformed");
    match postcard::take_from_bytes::<CaseContext>(bytes) {
        Ok((context, [])) if context.is_well_formed() => Ok(context),
        Ok(_) | Err(_) => Err(malformed),
    }
}

impl Case {
    /// A case as the vault kept it.
    ///
    /// # Errors
    ///
    /// [`Error::VaultDamaged`] if the parts do not fit together.
    pub fn load(
        me: &Me,
        index: u64,
        record: CaseRecord,
        ratchet: &[u8],
        letters: BTreeMap<u64, Row>,
        outbox: BTreeMap<u64, Row>,
        entropy: &mut Entropy,
    ) -> Result<Self, Error> {
        let keys: CaseKeys = decode(ratchet)?;
        let mut group = Group::from_blob(entropy.secret(), me.leaf(), &keys.group)
            .map_err(|_| Error::VaultDamaged("a case's group"))?;
        if keys.pending.is_none() && group.has_pending() {
            // A draft that was never signed.
            group.clear_pending().map_err(internal)?;
        }
        let epoch = Epoch::of(&group)?;
        let mut keeping = Keeping::new(keys.drawers);
        let letters = keeping.letters_of(record.id, letters)?;
        let outbox = keeping.outbox_of(record.id, outbox)?;
        let by_id = letters
            .iter()
            .map(|(at, letter)| (letter.letter.id, *at))
            .collect();
        Ok(Self {
            index,
            record,
            group,
            keep: keys.keep,
            pending: keys.pending,
            packages: keys.packages,
            epoch,
            letters,
            by_id,
            outbox,
            keeping,
            round: Round::default(),
        })
    }

    /// A case with nothing in it yet.
    fn begin(
        index: u64,
        record: CaseRecord,
        group: Group,
        keep: Option<Token<Keeper>>,
        entropy: &mut Entropy,
    ) -> Result<Self, Error> {
        Ok(Self {
            index,
            record,
            epoch: Epoch::of(&group)?,
            group,
            keep,
            pending: None,
            packages: Vec::new(),
            letters: BTreeMap::new(),
            by_id: BTreeMap::new(),
            outbox: BTreeMap::new(),
            keeping: Keeping::new(Drawers::new(entropy.secret())),
            round: Round::default(),
        })
    }

    /// The case's id.
    pub fn id(&self) -> &[u8; 16] {
        &self.record.id
    }

    /// What the vault keeps of it.
    pub fn record(&self) -> &CaseRecord {
        &self.record
    }

    /// Forgets that the log was read to its end: something may have come since.
    pub fn look_again(&mut self) {
        self.round.caught_up = false;
        self.round.tended = false;
        self.round.packet_refused = false;
        (self.round.closed, self.round.openings) = (None, 0);
        self.round.answers_read = false;
    }

    /// Has the rescue channels read in which members ask counsel, on counsel's devices.
    pub fn look_for_asks(&mut self) {
        self.round.asks_unread = self.record.rescues.iter().map(|rescue| rescue.identity).collect();
    }

    /// Whether everything the relay had when it was last asked was read.
    pub fn is_caught_up(&self) -> bool {
        self.round.caught_up
    }

    /// The epoch's channel and the right to read it, to follow it; and where to follow it from.
    pub fn following(&self) -> Option<(Grant<Reader>, martlet_proto::Follow)> {
        let (cursor, _) = self.record.reading.at?;
        Some((self.epoch.reader(), martlet_proto::Follow { from: cursor.seq }))
    }

    /// The present epoch's channel.
    pub fn channel(&self) -> ChannelId {
        self.epoch.channel
    }

    /// Takes what the relay answered.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a refusal that only time or people mend; [`Error::Protocol`] if the relay misbehaves.
    /// What waited still waits.
    pub fn answered(
        &mut self,
        me: &Me,
        purpose: Purpose,
        answer: Result<Answer, Refusal>,
        now: martlet_proto::Time,
        entropy: &mut Entropy,
    ) -> Result<Turn, Error> {
        let wrong = Error::Protocol("the relay answered another question");
        match (purpose, answer) {
            (Purpose::OpenMailbox(_), Ok(Answer::Tip(_))) => {
                self.round.closed = None;
                self.round.openings = self.round.openings.saturating_add(1);
                Ok(Turn::default())
            }
            (Purpose::Packet(out), Ok(Answer::Placed(_))) => Ok(self.packet_placed(out)),
            (Purpose::Ask, Ok(Answer::Placed(_))) => self.ask_placed(now),
            (Purpose::Answers, Ok(Answer::Slots(slots))) => self.take_answers(me, slots, now, entropy),
            (Purpose::Asks(identity), Ok(Answer::Slots(slots))) => self.take_asks(&identity, slots, now),
            (
                Purpose::Packet(_) | Purpose::Ask | Purpose::Answers | Purpose::Asks(_),
                Err(Refusal::Closed),
            ) => self.mailbox_closed(),
            (Purpose::Packet(_), Err(_)) if self.epoch.context.committer.is_some() => {
                self.round.packet_refused = true;
                Ok(Turn::default())
            }
            (Purpose::Open, Ok(Answer::Tip(tip))) => self.opened(&tip, now),
            (Purpose::Draft, Ok(Answer::Tip(tip))) => self.draft_opened(me, &tip, entropy),
            (Purpose::Draft, Err(refusal)) => {
                self.drop_draft();
                Err(Error::Refused(refusal))
            }
            (Purpose::Read, Ok(Answer::Slots(slots))) => self.take_slots(me, slots, now, entropy),
            (Purpose::Letters(sent), Ok(Answer::Placed(placed))) => self.letters_placed(&sent, &placed, now),
            (Purpose::Commit, Ok(Answer::Placed(_))) | (Purpose::Letters(_), Err(Refusal::Sealed)) => {
                self.round.caught_up = false;
                Ok(Turn::default())
            }
            // A full channel is left for the next one, by who can.
            (Purpose::Letters(_), Err(Refusal::Quota)) if self.is_committer(me) => {
                self.record.commit_due = true;
                Ok(Turn::default())
            }
            (Purpose::Letters(sent), Err(Refusal::Conflict)) => Ok(self.forget_sealed(&sent)),
            (
                Purpose::Read | Purpose::Letters(_) | Purpose::Commit,
                Err(Refusal::Closed | Refusal::OtherIncarnation),
            ) => {
                self.round.must_open = true;
                Ok(Turn::default())
            }
            (_, Err(refusal)) => Err(Error::Refused(refusal)),
            (_, Ok(_)) => Err(wrong),
        }
    }

    /// A mailbox vanished, or nobody has opened it yet: the next call opens it.
    fn mailbox_closed(&mut self) -> Result<Turn, Error> {
        let channel = self.next_mailbox().map(|mailbox| mailbox.channel());
        if channel.is_none() || self.round.openings >= OPENINGS_MAX {
            return Err(Error::Refused(Refusal::Closed));
        }
        self.round.closed = channel;
        Ok(Turn::default())
    }

    fn role_of(&self, identity: &[u8; 32]) -> Option<Role> {
        self.epoch.context.role(identity)
    }

    /// Puts what changes with nearly every step into a batch.
    fn save(&self, batch: &mut Batch) -> Result<(), Error> {
        batch.put(record_name(self.index), encode(&self.record)?);
        let keys = CaseKeys {
            group: self.group.to_blob().map_err(internal)?.to_vec(),
            keep: self.keep.clone(),
            pending: self.pending.clone(),
            packages: self.packages.clone(),
            drawers: self.keeping.drawers.clone(),
        };
        batch.put_ratchet(&ratchet_name(&self.record.id), encode(&keys)?);
        Ok(())
    }

    /// Puts the record alone into a batch, where no ratchet moved.
    fn save_record(&self, batch: &mut Batch) -> Result<(), Error> {
        batch.put(record_name(self.index), encode(&self.record)?);
        Ok(())
    }

    fn out_name(&self, out: u64) -> Name {
        Name::new(Table::Outbox, self.record.id, out)
    }

    /// The mailbox of the next call that goes to one.
    fn next_mailbox(&self) -> Option<Mailbox> {
        self.packet_mailbox().or_else(|| self.rescue_mailbox())
    }

    /// Keeps the private half of a key package that was offered.
    fn keep_package(&mut self, package: &crate::mls::Package) {
        self.packages.insert(0, package.private.to_vec());
        self.packages.truncate(PACKAGES_KEPT);
    }

    fn warn(&mut self, warning: Warning, events: &mut Vec<Event>) {
        if !self.record.warnings.contains(&warning) {
            self.record.warnings.push(warning);
            events.push(Event::Warning {
                case: crate::view::name_of(&self.record.id),
                warning,
            });
        }
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Case(..)")
    }
}

fn keep_info(group: &[u8], keep: &TokenHash) -> Vec<u8> {
    [martlet_proto::case::KEEP_INFO, group, keep.as_bytes()].concat()
}

fn member(identity: [u8; 32], name: &str, role: Role) -> MemberRecord {
    MemberRecord {
        identity,
        name: martlet_proto::clean(name).replace(['\n', '\t'], " "),
        role,
        verified: false,
        present: true,
        recovery: None,
    }
}

/// What both sides of a first contact, and whoever is added later, put into their records alike.
struct Beginning {
    id: [u8; 16],
    label: String,
    relay: RelayAddress,
    admission: Option<Admission>,
    rescue: Option<RescueSeeds>,
    rescues: Vec<RescueRecord>,
    commit_due: bool,
}

impl Beginning {
    fn record(self, context: &CaseContext, now: Time) -> CaseRecord {
        let people = context.people.iter();
        let mut record = CaseRecord::new(self.id, self.label, self.relay, self.admission);
        record.members = people
            .map(|person| member(person.identity, &person.name, person.role))
            .collect();
        record.rescue = self.rescue;
        record.rescues = self.rescues;
        record.commit_due = self.commit_due;
        record.refreshed = now;
        record
    }
}
