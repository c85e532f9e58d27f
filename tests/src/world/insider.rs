//! A member whose device does what its owner wants and not what the protocol says: it floods, places junk, replays what
//! others wrote, tries what only counsel may do, and goes on when it is no longer in the case.

use bytes::Bytes;
use martlet_proto::{
    Answer, Append, Call, Drop, Envelope, Kind, Seal, Trim,
    call::{Action, Item},
    limits::ITEMS_MAX,
};

use super::{Outcome, World};

/// Calls and envelopes that it remembers.
const KEPT: usize = 24;
/// Calls of a flood; and of one that fills a channel of 64 MiB, with the largest envelopes.
const FLOOD: usize = 40;
const FILLING: usize = 270;
/// Bytes of junk, by size of envelope.
const SMALL: usize = 2048;
const LARGE: usize = 65_536;

/// What such a device has at hand: its program's own calls, and what others placed.
pub(super) struct Insider {
    pub(super) at: usize,
    writes: Vec<Call>,
    opens: Vec<Call>,
    envelopes: Vec<Envelope>,
}

impl Insider {
    pub(super) fn new(at: usize) -> Self {
        Self {
            at,
            writes: Vec::new(),
            opens: Vec::new(),
            envelopes: Vec::new(),
        }
    }
}

impl World {
    /// A device makes a call about the case. The insider remembers what proves its rights.
    pub(super) fn overhear_call(&mut self, at: usize, call: &Call) {
        let Some(insider) = self.insider.as_mut().filter(|insider| insider.at == at) else {
            return;
        };
        let calls = match &call.action {
            Action::Append(append) if append.items.iter().all(|item| item.kind == Kind::Letter) => {
                &mut insider.writes
            }
            Action::Open(_) => &mut insider.opens,
            _ => return,
        };
        calls.push(call.clone());
        calls.drain(..calls.len().saturating_sub(KEPT));
    }

    /// A device is answered about the case. The insider keeps what others wrote.
    pub(super) fn overhear_answer(&mut self, at: usize, answer: &Answer) {
        let Some(insider) = self.insider.as_mut().filter(|insider| insider.at == at) else {
            return;
        };
        if let Answer::Slots(page) = answer {
            let here = page.slots.iter().filter_map(|slot| match slot {
                martlet_proto::Slot::Here(entry) => Some(entry.envelope.clone()),
                martlet_proto::Slot::Gone { .. } => None,
            });
            let envelopes = &mut insider.envelopes;
            envelopes.extend(here);
            envelopes.drain(..envelopes.len().saturating_sub(KEPT));
        }
    }

    /// The insider does something.
    pub(super) fn plot(&mut self) -> Outcome {
        let Some(insider) = &self.insider else {
            return Ok(());
        };
        let (writes, opens, envelopes) = (
            insider.writes.clone(),
            insider.opens.clone(),
            insider.envelopes.clone(),
        );
        let Some(known) = self.chance.pick(&writes) else {
            return Ok(());
        };
        match self.chance.below(12) {
            0..=1 => {
                let junk = self.junk(SMALL);
                self.place(&known, vec![junk], "places junk")
            }
            2..=4 => {
                let copies = (0..2).filter_map(|_| self.chance.pick(&envelopes)).collect();
                self.place(&known, copies, "replays what was written")
            }
            5 => self.repeat(&known),
            6..=7 => {
                let mut flood = Vec::new();
                for _ in 0..FLOOD * ITEMS_MAX {
                    flood.push(self.junk(SMALL));
                }
                self.place(&known, flood, "floods the channel")
            }
            8 if self.chance.percent(10) => {
                let junk = self.junk(LARGE);
                let flood = vec![junk; FILLING * ITEMS_MAX];
                self.place(&known, flood, "fills the channel")
            }
            9 => match self.chance.pick(&opens) {
                Some(open) => {
                    self.say("the insider opens a channel again");
                    self.secretly(open).map(|_| ())
                }
                None => Ok(()),
            },
            _ => self.usurp(&known),
        }
    }

    /// Sealed bytes that nobody can open.
    fn junk(&mut self, size: usize) -> Envelope {
        let mut entropy = self.chance.entropy();
        let start: [u8; 64] = entropy.bytes();
        let mut bytes = vec![0x5a; size];
        bytes[..64].copy_from_slice(&start);
        Envelope::new(Bytes::from(bytes)).unwrap()
    }

    fn item(&mut self, kind: Kind, envelope: Envelope) -> Item {
        let id = self.chance.entropy().entry();
        Item { kind, id, envelope }
    }

    /// Adds envelopes as letters, until the relay takes no more.
    fn place(&mut self, known: &Call, envelopes: Vec<Envelope>, what: &str) -> Outcome {
        self.say(&format!("the insider {what}"));
        for some in envelopes.chunks(ITEMS_MAX) {
            let items = some
                .iter()
                .map(|envelope| self.item(Kind::Letter, envelope.clone()));
            let append = Append {
                within: None,
                items: items.collect(),
            };
            if !self.secretly(with(known, Action::Append(append)))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes a call of its program again, and once more with other bytes under the same names.
    fn repeat(&mut self, known: &Call) -> Outcome {
        self.say("the insider makes a call again");
        self.secretly(known.clone())?;
        let Action::Append(append) = &known.action else {
            return Ok(());
        };
        let mut other = append.clone();
        for item in &mut other.items {
            item.envelope = self.junk(SMALL);
        }
        if self.secretly(with(known, Action::Append(other)))? {
            return Err("the relay took other bytes under the name of an entry".to_string());
        }
        Ok(())
    }

    /// Tries what only counsel may do.
    fn usurp(&mut self, known: &Call) -> Outcome {
        self.say("the insider tries what only counsel may do");
        let junk = self.junk(SMALL);
        let commit = self.item(Kind::Commit, junk.clone());
        let append = Append {
            within: None,
            items: vec![commit.clone()],
        };
        let seal = Seal {
            within: None,
            items: vec![commit],
        };
        let before = martlet_proto::Seq::new(1);
        for action in [
            Action::Append(append),
            Action::Seal(seal),
            Action::Trim(Trim { before }),
            Action::Drop(Drop),
        ] {
            if self.secretly(with(known, action.clone()))? {
                return Err(format!("the relay let a member do this: {action:?}"));
            }
        }
        Ok(())
    }

    /// Makes a call by the side of its program; says whether the relay did it.
    fn secretly(&mut self, call: Call) -> Outcome<bool> {
        let Some(at) = self.insider.as_ref().map(|insider| insider.at) else {
            return Ok(false);
        };
        if self.devices[at].cut {
            return Ok(false);
        }
        let peer = u64::try_from(at).unwrap();
        let (answers, pushes) = self.relay.turn(self.now, &[(peer, call)], &mut self.chance)?;
        self.push(pushes);
        Ok(answers.iter().all(Result::is_ok))
    }
}

/// Another call with the same right.
fn with(known: &Call, action: Action) -> Call {
    Call {
        channel: known.channel,
        bearer: known.bearer.clone(),
        action,
    }
}
