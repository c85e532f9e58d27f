//! What was written before a further device of somebody's joined. SPEC.md 7.8.

use martlet_proto::device::{HISTORY_ROOM, History, PastLetter};

use super::Case;
use crate::{
    error::Error,
    record::{LetterRecord, encode},
    vault::Batch,
};

/// Bytes of letters that go into one message.
const PIECE_BYTES: usize = 48 * 1024;

impl Case {
    /// Letters from a place on, as many as go into one message, and the place of the next; `None` at the end. What waits
    /// to be sent is left out: it reaches the new device as it reaches everybody.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a letter cannot be encoded.
    pub fn history(&self, from: u64) -> Result<Option<(History, u64)>, Error> {
        let mut letters = Vec::new();
        let (mut bytes, mut next) = (0usize, from);
        for (at, kept) in self.letters.range(from..HISTORY_ROOM) {
            if !kept.queued {
                let past = PastLetter {
                    at: *at,
                    letter: kept.letter.clone(),
                    from: kept.from,
                    received: kept.received,
                    read: kept.read,
                    delivered_to: kept.delivered_to.clone(),
                };
                bytes = bytes.saturating_add(encode(&past)?.len());
                if bytes > PIECE_BYTES && !letters.is_empty() {
                    break;
                }
                letters.push(past);
            }
            next = at.saturating_add(1);
        }
        let case = self.record.id;
        Ok((next > from).then_some((History { case, letters }, next)))
    }

    /// Keeps letters from before this device joined, in the room before its own. Those that are here already are skipped.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a record cannot be written.
    pub fn take_history(&mut self, letters: Vec<PastLetter>) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        for past in letters {
            let here = self.letters.contains_key(&past.at) || self.by_id.contains_key(&past.letter.id);
            if here || self.keeping.is_gone(&past.letter.id) || past.at >= HISTORY_ROOM {
                continue;
            }
            self.record.unread = self.record.unread.saturating_add(u64::from(!past.read));
            self.record.last = self.record.last.max(Some(past.letter.sent));
            let kept = LetterRecord {
                letter: past.letter,
                from: past.from,
                received: past.received,
                read: past.read,
                queued: false,
                delivered_to: past.delivered_to,
                confirmed_by: Vec::new(),
                to: Vec::new(),
                placed: None,
            };
            self.put_letter(past.at, kept, &mut batch)?;
        }
        if !batch.is_empty() {
            self.save_record(&mut batch)?;
        }
        Ok(batch)
    }
}
