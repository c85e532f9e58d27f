//! Secrets in memory: on the heap, wiped when dropped, never printed.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// `N` secret bytes. The only way out is [`expose`](Self::expose), which is easy to search for.
#[derive(Clone)]
pub struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

impl<const N: usize> Secret<N> {
    /// Takes secret bytes. The caller wipes its own copy, if it keeps one.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// Takes secret bytes of exactly `N` length; `None` for any other.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::new([0; N]);
        if bytes.len() != N {
            return None;
        }
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes themselves, to fill in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}
impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Serde for a field that may be written because what it stands in is encrypted: `#[serde(with = "sealed")]`.
///
/// [`Secret`] has no `Serialize` of its own, so each place where a secret is written names this module.
pub mod sealed {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use zeroize::Zeroizing;

    use super::Secret;

    /// Writes the bytes with their length before them.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<const N: usize, S: Serializer>(secret: &Secret<N>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(secret.expose())
    }

    /// Reads bytes of exactly the right length.
    ///
    /// # Errors
    ///
    /// Those of the deserializer, and any other length.
    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(from: D) -> Result<Secret<N>, D::Error> {
        let bytes = Zeroizing::new(Vec::<u8>::deserialize(from)?);
        Secret::from_slice(&bytes).ok_or_else(|| D::Error::invalid_length(bytes.len(), &"a secret of fixed length"))
    }

    /// The same for a secret that may be missing.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use super::Secret;

        #[derive(Serialize, Deserialize)]
        struct One<const N: usize>(#[serde(with = "super")] Secret<N>);

        /// Writes the secret, or that there is none.
        ///
        /// # Errors
        ///
        /// Those of the serializer.
        pub fn serialize<const N: usize, S: Serializer>(
            secret: &Option<Secret<N>>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            secret.clone().map(One).serialize(to)
        }

        /// Reads what [`serialize`] wrote.
        ///
        /// # Errors
        ///
        /// Those of the deserializer, and any other length.
        pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Secret<N>>, D::Error> {
            Ok(Option::<One<N>>::deserialize(from)?.map(|one| one.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        assert_eq!(format!("{:?}", Secret::new([0xab; 32])), "Secret(..)");
    }

    #[test]
    fn a_secret_has_one_length() {
        assert!(Secret::<16>::from_slice(&[1; 15]).is_none());
        assert_eq!(Secret::<16>::from_slice(&[1; 16]), Some(Secret::new([1; 16])));
    }
}
