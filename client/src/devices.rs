//! Further devices of a person: how a new one is vouched for, and how it comes into the cases. SPEC.md 7.8. Pure.
//!
//! The identity key stays where it was made. A new device makes a leaf key of its own and shows a request; the device
//! that has the identity key signs a credential for that leaf and has it added to every case. Between the two lie a
//! pair of mailboxes.

use martlet_proto::{
    Envelope, Kind, Time,
    case::SUITE,
    derive::{DeviceKeys, RescueKeys},
    device::{DeviceMessage, DeviceRequest, HISTORY_INFO, History, JOINING_INFO, Joining},
    envelope::NONCE,
    limits::SPARE_PACKAGES,
};

use crate::{
    entropy::Entropy,
    error::{Error, Usage},
    identity::behind_leaf,
    me::Me,
    mls::{inspect_package, keypackage},
    record::{DeviceRecord, HomeRelay, OwnerRecord, PackageKey, PackageKeys, SealedItem, encode},
    sealed,
};

/// The name of the private halves of the packages that this device offered, in the vault.
pub const PACKAGES_NAME: &[u8] = b"device packages";
/// Key packages in one message: 20 fit the largest envelope.
const PACKAGES_IN_ONE: usize = 20;
/// Days for which an offered package is good.
const OFFER_DAYS: u64 = 180;
const DAY: u64 = 86_400;

/// Begins to ask, on a new device.
pub fn begin(home: HomeRelay, entropy: &mut Entropy) -> OwnerRecord {
    OwnerRecord {
        identity: None,
        seed: entropy.secret(),
        home,
        cursor: None,
        outgoing: Vec::new(),
        offered: 0,
        joined: 0,
    }
}

/// What the new device shows.
pub fn request(me: &Me, owner: &OwnerRecord) -> DeviceRequest {
    let mut relay = [0; 8];
    relay.copy_from_slice(owner.home.relay.pin.as_bytes().split_at(8).0);
    DeviceRequest {
        seed: owner.seed.clone(),
        leaf: *me.leaf_public(),
        relay,
    }
}

/// Vouches for a new device; `cases` are waiting for it.
///
/// # Errors
///
/// [`Usage::NotThisDevice`] without the identity key, [`Usage::OwnInvite`] for one's own request.
pub fn accept(
    me: &Me,
    request: &DeviceRequest,
    home: HomeRelay,
    cases: u32,
    now: Time,
    entropy: &mut Entropy,
) -> Result<DeviceRecord, Error> {
    if request.leaf == *me.leaf_public() {
        return Err(Error::Usage(Usage::OwnInvite));
    }
    let accept = DeviceMessage::Accept {
        credential: me.vouch(&request.leaf, now.day())?,
        name: me.name().to_string(),
        cases,
    };
    let keys = DeviceKeys::derive(&request.seed);
    Ok(DeviceRecord {
        leaf: request.leaf,
        name: String::new(),
        seed: request.seed.clone(),
        home,
        keep_key: Vec::new(),
        packages: Vec::new(),
        cursor: None,
        outgoing: vec![seal(&keys.to_new, &accept, entropy)?],
        history: None,
    })
}

/// Takes what a new device offers: only packages of its own leaf that its owner's identity vouches for.
pub fn take_offer(me: &Me, device: &mut DeviceRecord, envelope: &Envelope, now: Time) {
    let keys = DeviceKeys::derive(&device.seed);
    let Some(DeviceMessage::Packages { name, packages }) = open(&keys.to_old, envelope) else {
        return;
    };
    for package in packages {
        let Ok(info) = inspect_package(&package, now.as_secs()) else {
            continue;
        };
        let own = info.signature_key == device.leaf
            && behind_leaf(&info.credential, &info.signature_key) == Some(me.identity().public());
        if let Some(keep_key) = info.keep_key.filter(|_| own) {
            device.keep_key = keep_key;
            device.packages.push(package);
        }
    }
    device.name = martlet_proto::clean(&name).replace(['\n', '\t'], " ");
}

/// Hands a case over to a new device.
///
/// # Errors
///
/// [`Error::Internal`] if it cannot be sealed.
pub fn hand_over(device: &mut DeviceRecord, joining: &Joining, entropy: &mut Entropy) -> Result<(), Error> {
    let keys = DeviceKeys::derive(&device.seed);
    let key = &device.keep_key;
    let sealed = sealed::seal(
        key,
        &sealed_to(JOINING_INFO, &device.leaf),
        &encode(joining)?,
        entropy,
    )
    .map_err(|_| Error::Internal("a case cannot be handed over"))?;
    let item = seal(&keys.to_new, &DeviceMessage::Join(sealed), entropy)?;
    device.outgoing.push(item);
    Ok(())
}

/// Letters from before a new device joined, as they go to it.
///
/// # Errors
///
/// [`Error::Internal`] if they do not fit or cannot be sealed.
pub fn hand_history(
    device: &DeviceRecord,
    history: &History,
    entropy: &mut Entropy,
) -> Result<SealedItem, Error> {
    let keys = DeviceKeys::derive(&device.seed);
    let info = sealed_to(HISTORY_INFO, &device.leaf);
    let sealed = sealed::seal(&device.keep_key, &info, &encode(history)?, entropy)
        .map_err(|_| Error::Internal("letters cannot be handed over"))?;
    seal(&keys.to_new, &DeviceMessage::History(sealed), entropy)
}

/// Opens letters that were handed over.
pub fn open_history(me: &Me, sealed: &[u8]) -> Option<History> {
    let info = sealed_to(HISTORY_INFO, me.leaf_public());
    let plain = sealed::open(me.keep_seed(), &info, sealed).ok()?;
    match postcard::take_from_bytes(&plain) {
        Ok((history, [])) => Some(history),
        Ok(_) | Err(_) => None,
    }
}

/// Understands what the device that vouches wrote.
pub fn take_answer(owner: &OwnerRecord, envelope: &Envelope) -> Option<DeviceMessage> {
    open(&DeviceKeys::derive(&owner.seed).to_new, envelope)
}

/// The identity that vouched for this device's leaf, if the credential is good.
pub fn vouched_by(me: &Me, credential: &[u8]) -> Option<[u8; 32]> {
    behind_leaf(credential, me.leaf_public())
}

/// Opens a case that was handed over.
pub fn open_joining(me: &Me, sealed: &[u8]) -> Option<Joining> {
    let plain = sealed::open(me.keep_seed(), &sealed_to(JOINING_INFO, me.leaf_public()), sealed).ok()?;
    match postcard::take_from_bytes(&plain) {
        Ok((joining, [])) => Some(joining),
        Ok(_) | Err(_) => None,
    }
}

/// How many packages are to be offered now: for the cases to join, and some to spare.
pub fn offer_due(owner: &OwnerRecord, cases: u32) -> usize {
    let open = owner.offered.saturating_sub(owner.joined);
    let wanted = usize::try_from(cases).unwrap_or(0).saturating_add(SPARE_PACKAGES);
    let open = usize::try_from(open).unwrap_or(usize::MAX);
    if open.saturating_mul(2) < wanted {
        wanted.saturating_sub(open)
    } else {
        0
    }
}

/// Makes packages and puts them into messages for the device that vouches.
///
/// # Errors
///
/// [`Error::Internal`] if they cannot be made.
pub fn offer(
    me: &Me,
    name: &str,
    owner: &mut OwnerRecord,
    kept: &mut PackageKeys,
    count: usize,
    now: Time,
    entropy: &mut Entropy,
) -> Result<(), Error> {
    let keys = DeviceKeys::derive(&owner.seed);
    let mut packages = Vec::new();
    for _ in 0..count {
        let package = keypackage(
            entropy.secret(),
            me.leaf(),
            Some(me.keep_public()),
            now.as_secs().saturating_sub(DAY),
            now.as_secs().saturating_add(OFFER_DAYS * DAY),
        )
        .map_err(|_| Error::Internal("a key package cannot be made"))?;
        kept.packages.push(PackageKey {
            private: package.private.to_vec(),
            made: now.day(),
        });
        packages.push(package.public);
    }
    for packages in packages.chunks(PACKAGES_IN_ONE) {
        let message = DeviceMessage::Packages {
            name: name.to_string(),
            packages: packages.to_vec(),
        };
        owner.outgoing.push(seal(&keys.to_old, &message, entropy)?);
    }
    owner.offered = owner
        .offered
        .saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    Ok(())
}

/// The HPKE info of what is sealed to a device.
fn sealed_to(label: &[u8], leaf: &[u8; 32]) -> Vec<u8> {
    [label, leaf, &SUITE.to_be_bytes()].concat()
}

fn seal(keys: &RescueKeys, message: &DeviceMessage, entropy: &mut Entropy) -> Result<SealedItem, Error> {
    let nonce: [u8; NONCE] = entropy.bytes();
    let envelope = Envelope::seal(
        &keys.envelope,
        nonce,
        &keys.channel(),
        Kind::Packet,
        &encode(message)?,
    )
    .map_err(|_| Error::Internal("a message to a device does not fit"))?;
    Ok(SealedItem {
        entry: entropy.entry(),
        envelope,
    })
}

fn open(keys: &RescueKeys, envelope: &Envelope) -> Option<DeviceMessage> {
    let plain = envelope
        .open(&keys.envelope, &keys.channel(), Kind::Packet)
        .ok()?;
    match postcard::take_from_bytes(&plain) {
        Ok((message, [])) => Some(message),
        Ok(_) | Err(_) => None,
    }
}
