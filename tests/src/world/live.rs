//! Following: a device that is told of new entries without asking, until the connection breaks.

use std::collections::VecDeque;

use martlet::case::Turn;
use martlet_proto::{Answer, Call};

use super::{
    Died, Outcome, World,
    device::{Device, Followed, Job, Live},
    relay::Pushed,
    told,
};

/// Connections on which calls are made have lower numbers.
const PEERS_OF_FOLLOWS: u64 = 1 << 32;

impl World {
    /// A device begins to follow its cases.
    pub(super) fn go_live(&mut self, at: usize) -> Outcome {
        if self.devices[at].cut || self.devices[at].live.is_some() {
            return Ok(());
        }
        self.note(at, "begins to follow");
        self.devices[at].live = Some(Live {
            peer: PEERS_OF_FOLLOWS + self.next_flight,
            followed: Vec::new(),
            pushes: VecDeque::new(),
        });
        self.next_flight += 1;
        self.follow_new(at)
    }

    /// Begins to follow what is not followed yet: new cases, next epochs.
    pub(super) fn follow_new(&mut self, at: usize) -> Outcome {
        let Device { live, memory, .. } = &mut self.devices[at];
        let Some(live) = live else {
            return Ok(());
        };
        for case in &memory.cases {
            let known = |followed: &Followed| followed.channel == case.channel();
            let Some((grant, verb)) = case.following().filter(|_| !live.followed.iter().any(known)) else {
                continue;
            };
            let request = u32::try_from(live.followed.len()).unwrap();
            let call = Call::new(&grant, verb);
            // A refusal leaves the channel unfollowed: the case will find out by asking.
            if let Ok(Answer::Slots(page)) =
                self.relay
                    .follow(self.now, live.peer, request, call, &mut self.chance)?
            {
                if !page.slots.is_empty() {
                    live.pushes.push_back((request, Some(page.slots)));
                }
                live.followed.push(Followed {
                    request,
                    case: *case.id(),
                    channel: case.channel(),
                });
            }
        }
        Ok(())
    }

    /// Puts pushes on their way.
    pub(super) fn push(&mut self, pushes: Vec<Pushed>) {
        for pushed in pushes {
            let live = self.devices.iter_mut().filter_map(|device| device.live.as_mut());
            if let Some(live) = live.into_iter().find(|live| live.peer == pushed.peer) {
                live.pushes.push_back((pushed.request, pushed.slots));
            }
        }
    }

    /// A device takes the next push, if it is not just asking about the same case.
    pub(super) fn take_push(&mut self, at: usize) -> Outcome {
        let now = self.clock(at);
        let device = &mut self.devices[at];
        let Some(live) = &mut device.live else {
            return Ok(());
        };
        let Some((request, _)) = live.pushes.front() else {
            return Ok(());
        };
        let of = live.followed.iter().find(|followed| followed.request == *request);
        let Some((id, channel)) = of.map(|followed| (followed.case, followed.channel)) else {
            return Err("a push to what is not followed".to_string());
        };
        let job = Job::Case(id);
        if device.asked.contains_key(&job) {
            return Ok(());
        }
        let slots = live.pushes.pop_front().and_then(|(_, slots)| slots);
        device.due.insert(job);
        let (me, case) = device.memory.case(&id)?;
        let entropy = &mut self.chance.entropy();
        let turn = match slots {
            _ if case.channel() != channel => Turn::default(),
            Some(slots) => case.pushed(me, slots, now, entropy).map_err(told)?,
            None => {
                case.look_again();
                Turn::default()
            }
        };
        self.note(at, "takes a push");
        let kept = self.commit(at, &turn.batch)?;
        if !matches!(kept, Err(Died { kept: false })) {
            self.hand_over(&turn);
        }
        if kept.is_ok() {
            self.hear(at, turn.events)?;
            self.follow_new(at)?;
        }
        Ok(())
    }

    /// The connection on which a device follows is over.
    pub(super) fn hang_up(&mut self, at: usize) -> Outcome {
        match self.devices[at].live.take() {
            Some(live) => self.relay.hang_up(self.now, live.peer),
            None => Ok(()),
        }
    }
}
