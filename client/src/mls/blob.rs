//! A group's rows as one compact blob, and back.
//!
//! OpenMLS's memory storage keeps values as JSON text in which each byte of a key is a decimal number. The blob holds
//! that text with every such list of numbers replaced by the bytes themselves. The replacement works on the text alone
//! and restores it exactly, so it depends on no type of OpenMLS's. The blob is plain: the vault encrypts it.
//!
//! Layout: `version u8 | name | row count | (key, value)*`; name, keys and values are length-prefixed, numbers are
//! big-endian `u32`, and rows stand in the order of their keys.

use std::collections::BTreeMap;

use openmls_memory_storage::MemoryStorage;
use zeroize::Zeroizing;

use super::MlsError;

/// The first byte of a blob.
const VERSION: u8 = 1;
/// Stands before a list's length and bytes; a byte of this value in the text itself is followed by a length of zero.
const MARK: u8 = 1;
/// A shorter list is left as it is.
const LIST_LENGTH_MIN: usize = 4;

/// Writes all rows of a storage, under a name.
pub(super) fn pack(name: &[u8], storage: &MemoryStorage) -> Result<Zeroizing<Vec<u8>>, MlsError> {
    let values = storage.values.read().map_err(|_| MlsError::Internal)?;
    let rows: BTreeMap<&Vec<u8>, &Vec<u8>> = values
        .keys()
        .filter_map(|key| Some((key, values.get(key)?)))
        .collect();
    // Room for the whole text, so that the buffer never moves and leaves a copy behind.
    let room = rows.iter().fold(1024_usize, |sum, (key, value)| {
        sum.saturating_add(key.len())
            .saturating_add(value.len())
            .saturating_add(64)
    });
    let mut blob = Zeroizing::new(Vec::with_capacity(room));
    blob.push(VERSION);
    push(&mut blob, name)?;
    blob.extend(number(rows.len())?);
    for (key, value) in rows {
        push(&mut blob, &shorten(key)?)?;
        push(&mut blob, &shorten(value)?)?;
    }
    Ok(blob)
}

/// Reads what [`pack`] wrote into an empty storage, and returns the name.
pub(super) fn unpack(blob: &[u8], storage: &MemoryStorage) -> Result<Vec<u8>, MlsError> {
    let mut rest = blob;
    if take(&mut rest, 1)? != [VERSION] {
        return Err(MlsError::Damaged);
    }
    let name = pull(&mut rest)?.to_vec();
    let mut values = storage.values.write().map_err(|_| MlsError::Internal)?;
    for _ in 0..length(&mut rest)? {
        let key = lengthen(pull(&mut rest)?)?;
        let mut value = lengthen(pull(&mut rest)?)?;
        values.insert(key.to_vec(), std::mem::take(&mut *value));
    }
    if rest.is_empty() {
        Ok(name)
    } else {
        Err(MlsError::Damaged)
    }
}

/// Makes a new group keep no resumption secrets of past epochs: no PSK is ever injected into a case.
///
/// OpenMLS keeps 32 in a group it creates, whatever it is told; of one that is joined it keeps as many as it is told.
pub(super) fn forget_resumption(storage: &MemoryStorage) -> Result<(), MlsError> {
    let mut values = storage.values.write().map_err(|_| MlsError::Internal)?;
    let key = values
        .keys()
        .find(|key| key.starts_with(b"ResumptionPsk"))
        .cloned()
        .ok_or(MlsError::Internal)?;
    let none = br#"{"max_number_of_secrets":0,"resumption_psk":[],"cursor":0}"#;
    let old = values.insert(key, none.to_vec());
    drop(Zeroizing::new(old.unwrap_or_default()));
    Ok(())
}

fn number(count: usize) -> Result<[u8; 4], MlsError> {
    u32::try_from(count)
        .map(u32::to_be_bytes)
        .map_err(|_| MlsError::Internal)
}

fn push(blob: &mut Vec<u8>, bytes: &[u8]) -> Result<(), MlsError> {
    blob.extend(number(bytes.len())?);
    blob.extend_from_slice(bytes);
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], MlsError> {
    let (head, tail) = rest.split_at_checked(count).ok_or(MlsError::Damaged)?;
    *rest = tail;
    Ok(head)
}

fn length(rest: &mut &[u8]) -> Result<usize, MlsError> {
    let bytes = take(rest, 4)?.try_into().map_err(|_| MlsError::Internal)?;
    usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| MlsError::Damaged)
}

fn pull<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], MlsError> {
    let count = length(rest)?;
    take(rest, count)
}

/// Replaces each list of bytes in a text by the bytes.
fn shorten(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, MlsError> {
    let mut short = Zeroizing::new(Vec::with_capacity(text.len().saturating_add(64)));
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some((bytes, after)) = list(rest) {
            short.push(MARK);
            push(&mut short, &bytes)?;
            rest = after;
            continue;
        }
        short.push(first);
        if first == MARK {
            short.extend(number(0)?);
        }
        rest = tail;
    }
    Ok(short)
}

/// Restores what [`shorten`] replaced.
fn lengthen(short: &[u8]) -> Result<Zeroizing<Vec<u8>>, MlsError> {
    let mut text = Zeroizing::new(Vec::with_capacity(
        short.len().saturating_mul(4).saturating_add(64),
    ));
    let mut rest = short;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != MARK {
            text.push(first);
            continue;
        }
        let bytes = pull(&mut rest)?;
        if bytes.is_empty() {
            text.push(MARK);
            continue;
        }
        for (place, byte) in bytes.iter().enumerate() {
            text.push(if place == 0 { b'[' } else { b',' });
            decimal(&mut text, *byte);
        }
        text.push(b']');
    }
    Ok(text)
}

fn decimal(text: &mut Vec<u8>, byte: u8) {
    let digits = [byte / 100, byte / 10 % 10, byte % 10];
    let skip = if byte >= 100 {
        0
    } else if byte >= 10 {
        1
    } else {
        2
    };
    text.extend(digits.iter().skip(skip).map(|digit| digit.saturating_add(b'0')));
}

/// Reads `[n,n,...]`, each number a byte in its only spelling; gives the bytes and what follows.
fn list(text: &[u8]) -> Option<(Zeroizing<Vec<u8>>, &[u8])> {
    let mut rest = text.strip_prefix(b"[")?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(64));
    loop {
        let (value, after) = byte(rest)?;
        bytes.push(value);
        let (end, after) = after.split_first()?;
        rest = after;
        match end {
            b',' => {}
            b']' => break,
            _ => return None,
        }
    }
    (bytes.len() >= LIST_LENGTH_MIN).then_some((bytes, rest))
}

/// Reads a byte in its only decimal spelling; gives it and what follows.
fn byte(text: &[u8]) -> Option<(u8, &[u8])> {
    let (mut value, mut rest) = (None, text);
    while let Some((digit @ b'0'..=b'9', after)) = rest.split_first() {
        let digit = digit & 0x0f;
        value = match value {
            None => Some(digit),
            Some(0) => return None,
            Some(before) => Some(u8::checked_mul(before, 10)?.checked_add(digit)?),
        };
        rest = after;
    }
    Some((value?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortening_restores_every_text() {
        let all: Vec<u8> = (0..=255).collect();
        let list = format!("{all:?}").replace(' ', "");
        for text in [
            b"".to_vec(),
            b"[1,2,3,4]".to_vec(),
            b"[[0,0,0,0],[1,2],[],[01,2,3,4],[256,1,1,1],[1,2,3,4".to_vec(),
            b"\x01[-1,2,3,4]\x00\x01\"[9,9,9,9,]".to_vec(),
            b"{\"a\":[1.5,2,3,4],\"b\":\"[1,2,3,4,5]\"}".to_vec(),
            list.clone().into_bytes(),
            all.clone(),
        ] {
            assert_eq!(*lengthen(&shorten(&text).unwrap()).unwrap(), text);
        }
        assert_eq!(shorten(list.as_bytes()).unwrap().len(), 261);
    }

    #[test]
    fn a_damaged_blob_is_refused() {
        let storage = MemoryStorage::default();
        storage
            .values
            .write()
            .unwrap()
            .insert(b"key".to_vec(), b"[1,2,3,4,5]".to_vec());
        let blob = pack(b"name", &storage).unwrap();
        let again = MemoryStorage::default();
        assert_eq!(unpack(&blob, &again).unwrap(), b"name");
        assert_eq!(*again.values.read().unwrap(), *storage.values.read().unwrap());
        for cut in 0..blob.len() {
            assert!(unpack(&blob[..cut], &MemoryStorage::default()).is_err());
        }
        let mut longer = blob.to_vec();
        longer.push(0);
        assert_eq!(unpack(&longer, &MemoryStorage::default()), Err(MlsError::Damaged));
    }
}
