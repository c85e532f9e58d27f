//! Documents: into the spool, to the relay, and back.

use std::{path::Path, sync::Arc};

use martlet_proto::{
    Time,
    letter::{Body, CHUNK_BYTES, LetterId, Manifest, WorkingCopy},
};

use super::{Client, Found, entropy, now};
use crate::{
    error::{Error, Missing},
    file::{
        fetch::fetch,
        spool::{Source, Spool},
        upload::Upload,
    },
    link::Link,
    record::{UploadRecord, encode},
    vault::{Name, Table},
    view::{Fetched, LetterKind, Progress, Sent, Stage},
};

impl Client {
    pub(super) async fn send_document(
        &self,
        case: &str,
        (name, source): (String, Source<'_>),
        copy_of: Option<[u8; 32]>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Sent, Error> {
        let id = entropy()?.letter();
        let (case, key, keep) = {
            let core = self.core()?;
            let case = core.case_at(core.find_at(case)?)?;
            case.writable()?;
            let mut entropy = entropy()?;
            (*case.id(), entropy.secret(), entropy.keeper())
        };
        let spool = self.spool();
        let sealed = tokio::task::block_in_place(|| {
            spool.seal(&id, source, &key, &mut |done_bytes, total_bytes| {
                progress(Progress {
                    stage: Stage::Sealing,
                    done_bytes,
                    total_bytes,
                });
            })
        })?;
        let manifest = Manifest {
            key,
            keep: keep.hash(),
            size_bytes: sealed.size_bytes,
            sha256: sealed.sha256,
            name,
        };
        self.keep_upload(
            &case,
            UploadRecord {
                letter: id,
                manifest,
                copy_of,
                keep,
                sent: now(),
            },
        )?;
        let queued = match self.link_of(&case).await {
            Ok(link) => {
                self.look_again(&case)?;
                let mut uploaded = self.upload(&case, &id, link.as_ref(), progress).await;
                if matches!(uploaded, Err(Error::Unreachable)) && link.is_closed() {
                    // Its road may have died. The next link is made on the other one.
                    uploaded = match self.link_of(&case).await {
                        Ok(link) => self.upload(&case, &id, link.as_ref(), progress).await,
                        Err(error) => Err(error),
                    };
                }
                match uploaded {
                    Ok(()) => self.deliver(&case, &id).await?,
                    Err(Error::Unreachable) => true,
                    Err(error) => return Err(error),
                }
            }
            Err(Error::Unreachable) => true,
            Err(error) => return Err(error),
        };
        Ok(Sent {
            id,
            kind: LetterKind::Document,
            queued,
            sha256: Some(sealed.sha256),
        })
    }

    fn spool(&self) -> Spool {
        Spool::new(&self.inner.home)
    }

    /// Forgets what a sealing left that was cut off, or an upload cut off between its end and its cleaning up.
    pub(super) fn clean_spool(&self) -> Result<(), Error> {
        let core = self.core()?;
        let waiting: Vec<LetterId> = core.uploads.iter().map(|(.., upload)| upload.letter).collect();
        self.spool().clean(&waiting);
        Ok(())
    }

    /// Notes a document that is in the spool; from here on it will be sent.
    fn keep_upload(&self, case: &[u8; 16], upload: UploadRecord) -> Result<(), Error> {
        let mut core = self.core()?;
        let core = &mut *core;
        let at = core.at_id(case)?;
        let last = core
            .uploads
            .iter()
            .filter(|(of, ..)| of == case)
            .map(|(_, index, _)| *index)
            .max();
        let index = last.map_or(0, |last| last.saturating_add(1));
        let held = core.cases.get_mut(at).ok_or(Error::NotFound(Missing::Case))?;
        let manifest = upload.manifest.clone();
        let body = match upload.copy_of {
            Some(of) => Body::Copy(WorkingCopy { of, manifest }),
            None => Body::Document(manifest),
        };
        let sent: Time = upload.sent;
        let mut batch = held.write_document(&core.me, upload.letter, &body, sent)?;
        batch.put(Name::new(Table::Uploads, *case, index), encode(&upload)?);
        core.commit(batch)?;
        core.uploads.push((*case, index, upload));
        Ok(())
    }

    /// Sends the documents of a case that wait; whether there were any.
    pub(super) async fn send_uploads(&self, case: &[u8; 16], link: &dyn Link) -> Result<bool, Error> {
        let waiting: Vec<LetterId> = {
            let core = self.core()?;
            core.uploads
                .iter()
                .filter(|(of, ..)| of == case)
                .map(|(.., upload)| upload.letter)
                .collect()
        };
        for id in &waiting {
            self.upload(case, id, link, &mut |_| {}).await?;
        }
        Ok(!waiting.is_empty())
    }

    /// Sends one document; then its letter waits in the outbox.
    async fn upload(
        &self,
        case: &[u8; 16],
        id: &LetterId,
        link: &dyn Link,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(), Error> {
        let turn = self.turn_of(id.as_bytes())?;
        let _mine = turn.lock().await;
        let (index, upload, admission) = {
            let core = self.core()?;
            let found = core.uploads.iter().find(|(.., upload)| upload.letter == *id);
            let Some((_, index, upload)) = found else {
                return Ok(());
            };
            let at = core.at_id(case)?;
            let admission = core
                .cases
                .get(at)
                .and_then(|case| case.record().admission.clone());
            (*index, upload.clone(), admission)
        };
        let spool = self.spool();
        let total_bytes = upload.manifest.size_bytes;
        let stream: Arc<dyn Link> = link.stream().await?;
        let job = Upload {
            spool: &spool,
            id: *id,
            manifest: &upload.manifest,
            keep: &upload.keep,
            admission,
        };
        job.run(stream, &mut |chunks, _| {
            let done_bytes = chunks.saturating_mul(CHUNK_BYTES as u64).min(total_bytes);
            progress(Progress {
                stage: Stage::Sending,
                done_bytes,
                total_bytes,
            });
        })
        .await?;
        let mut core = self.core()?;
        let core = &mut *core;
        let at = core.at_id(case)?;
        let held = core.cases.get_mut(at).ok_or(Error::NotFound(Missing::Case))?;
        let mut batch = held.document_stored(id)?;
        batch.delete(Name::new(Table::Uploads, *case, index));
        core.commit(batch)?;
        core.uploads.retain(|(.., upload)| upload.letter != *id);
        spool.remove(id);
        Ok(())
    }

    /// Fetches a document into a folder, verifies it whole, and only then gives it its name. Never overwrites.
    ///
    /// # Errors
    ///
    /// [`Missing::Document`], [`Missing::Expired`]; [`Error::Verification`] if it is not what its letter says;
    /// [`Error::Partly`] and [`Error::Unreachable`] if it was interrupted: the next call goes on.
    ///
    /// # Cancel safety
    ///
    /// What arrived stays beside its place, and the next call goes on from there.
    pub async fn get(
        &self,
        case: &str,
        file: &str,
        dir: &Path,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Fetched, Error> {
        let (case, id, manifest, relays) = {
            let core = self.core()?;
            let (case, (id, manifest), here, homes) = match core.find(case)? {
                Found::Case(at) => {
                    let case = core.case_at(at)?;
                    (
                        *case.id(),
                        case.document(file)?,
                        case.record().relay.clone(),
                        case.homes().to_vec(),
                    )
                }
                Found::Archived(at) => {
                    let case = core.archived_at(at)?;
                    let (id, relay) = (*case.id(), case.record().relay.clone());
                    (id, case.document(file)?, relay, Vec::new())
                }
            };
            // A document stays where the case lived when it was sent.
            let others = homes.into_iter().map(|home| home.relay);
            let others = others.filter(|relay| relay.pin != here.pin).collect::<Vec<_>>();
            (case, id, manifest, [vec![here], others].concat())
        };
        if !dir.is_dir() {
            return Err(Error::File(std::io::Error::from(
                std::io::ErrorKind::NotADirectory,
            )));
        }
        // Two fetches of one document into one folder would share a part.
        let turn = self.turn_of(id.as_bytes())?;
        let _mine = turn.lock().await;
        let mut told = |done_bytes, total_bytes| {
            progress(Progress {
                stage: Stage::Fetching,
                done_bytes,
                total_bytes,
            });
        };
        let mut failed = Error::NotFound(Missing::Expired);
        for relay in relays {
            let link = match self.link_for(&case, &relay).await {
                Ok(link) => link,
                Err(error) => {
                    failed = error;
                    continue;
                }
            };
            let mut fetched = fetch(link.stream().await?, &id, &manifest, dir, &mut told).await;
            if matches!(fetched, Err(Error::Unreachable)) && link.is_closed() {
                // Its road may have died. The next link is made on the other one.
                let stream = self.link_for(&case, &relay).await?.stream().await?;
                fetched = fetch(stream, &id, &manifest, dir, &mut told).await;
            }
            match fetched {
                Err(Error::NotFound(Missing::Expired)) => {}
                other => return other,
            }
        }
        Err(failed)
    }
}
