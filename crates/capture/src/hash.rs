//! The keyed hash that stands for a person's id and address. Without the key nobody can try candidates against the hashes.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sha2::block_api::compress256;
use tally_model::{ConversionStatus, Entropy, EventId};
use tracing::info;
use uuid::Builder;

use crate::file::{FileError, KEY_BYTES, Named, random_key};

/// Secret of the hashes. The same for all processes that capture for one data set: another key makes everybody a stranger.
#[derive(Clone)]
pub struct HashKey {
    mac: Hmac<Sha256>,
    /// The state of SHA-256 behind the key's inner block, and behind its outer one (RFC 2104): a short value is one more block of
    /// each, which is all that there is to compute. Every event has two of them.
    inner: [u32; 8],
    outer: [u32; 8],
}

const BLOCK_BYTES: usize = 64;
/// What a block holds besides the end of a message: a bit in a byte of its own, and the length in the last 8 (FIPS 180-4, 5.1.1).
const SHORT_BYTES_MAX: usize = BLOCK_BYTES - 9;
/// The state that SHA-256 begins with (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

impl HashKey {
    /// Reads the key, or makes one where there is none. Whoever calls holds the lock of the data folder: of two
    /// processes that made a key at the same time, one would lose its own.
    pub fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Self, FileError> {
        let file = Named { what: "the hash key", path };
        if let Some(bytes) = file.read_secret()? {
            let found = bytes.len();
            let key = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| {
                file.wrong(format!(
                    "has {found} bytes instead of {KEY_BYTES}; restore it from a backup (a new key makes every known \
                     user a stranger)"
                ))
            })?;
            return Ok(Self::from_bytes(key));
        }
        let key = random_key(entropy);
        file.write_secret(&key, entropy)?;
        info!(path = %path.display(), "hash key created; back it up");
        Ok(Self::from_bytes(key))
    }

    pub fn from_bytes(key: [u8; KEY_BYTES]) -> Self {
        #[allow(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104)")]
        let mac = Hmac::new_from_slice(&key).expect("any length of key");
        let behind_key = |pad: u8| {
            let mut block = [pad; BLOCK_BYTES];
            block.iter_mut().zip(key).for_each(|(byte, of_key)| *byte ^= of_key);
            after(INITIAL, block)
        };
        Self { mac, inner: behind_key(0x36), outer: behind_key(0x5c) }
    }

    pub(crate) fn user(&self, id: &str) -> u64 {
        self.hash(b"user:", id.as_bytes())
    }

    /// A version 4 address and the same mapped into version 6 have one hash.
    pub(crate) fn ip(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(address) => self.hash(b"ip:", &address.octets()),
            IpAddr::V6(address) => self.hash(b"ip:", &address.octets()),
        }
    }

    /// The id of what a postback says: the same for the same words about one transaction, so that a repeat is a copy. Keyed, so
    /// that nobody else can send an event by this id first.
    pub(crate) fn postback(&self, scope: &str, txn_id: &str, status: ConversionStatus) -> EventId {
        let mut mac = self.mac.clone().chain_update(b"postback:");
        for text in [scope, txn_id, status.as_str()] {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        // Version 8 (RFC 9562): made by a rule of our own.
        Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The domain keeps apart a user and an address that happen to be the same bytes.
    fn hash(&self, domain: &[u8], value: &[u8]) -> u64 {
        if domain.len() + value.len() <= SHORT_BYTES_MAX {
            return self.hash_short(domain, value);
        }
        let digest = self.mac.clone().chain_update(domain).chain_update(value).finalize().into_bytes();
        digest.iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
    }

    /// The same, block by block.
    fn hash_short(&self, domain: &[u8], value: &[u8]) -> u64 {
        let mut block = [0; BLOCK_BYTES];
        let (before, rest) = block.split_at_mut(domain.len());
        before.copy_from_slice(domain);
        rest[..value.len()].copy_from_slice(value);
        let digest = after(self.inner, padded(block, domain.len() + value.len()));
        let mut block = [0; BLOCK_BYTES];
        block.chunks_exact_mut(4).zip(digest).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
        let [high, low, ..] = after(self.outer, padded(block, size_of_val(&digest)));
        u64::from(high) << 32 | u64::from(low)
    }
}

fn after(mut state: [u32; 8], block: [u8; BLOCK_BYTES]) -> [u32; 8] {
    compress256(&mut state, &[block]);
    state
}

/// The last block of a message that the key's block is in front of, with what ends it.
fn padded(mut block: [u8; BLOCK_BYTES], bytes: usize) -> [u8; BLOCK_BYTES] {
    block[bytes] = 0x80;
    let bits = 8 * (BLOCK_BYTES + bytes) as u64;
    block[SHORT_BYTES_MAX + 1..].copy_from_slice(&bits.to_be_bytes());
    block
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use tally_model::SeededEntropy;

    #[test]
    fn a_key_is_made_once_and_read_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets/hash.key");
        let made = HashKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap();
        let read = HashKey::load_or_create(&path, &SeededEntropy::new(2)).unwrap();
        assert_eq!(made.user("u"), read.user("u"));
        assert_eq!(fs::read(&path).unwrap().len(), KEY_BYTES);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    #[cfg(unix)]
    fn only_the_owner_can_read_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hash.key");
        HashKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_cut_short_is_an_error_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hash.key");
        fs::write(&path, b"short").unwrap();
        let error = HashKey::load_or_create(&path, &SeededEntropy::new(1)).unwrap_err().to_string();
        assert!(error.contains("5 bytes instead of 32"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn hashes_differ_by_key_and_by_domain() {
        let (a, b) = (HashKey::from_bytes([1; 32]), HashKey::from_bytes([2; 32]));
        assert_ne!(a.user("u"), b.user("u"));
        let address: IpAddr = "1.2.3.4".parse().unwrap();
        assert_ne!(a.ip(address), a.user("\u{1}\u{2}\u{3}\u{4}"));
        assert_eq!(a.ip(address), a.ip("::ffff:1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn the_hash_is_the_first_8_bytes_of_hmac_sha_256() {
        // Fixed by the data on disk. Independently: printf 'user:alice' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707..07
        assert_eq!(HashKey::from_bytes([7; 32]).user("alice"), 0xefe7_5b73_e041_52d9);
    }

    proptest! {
        #[test]
        fn short_or_long_the_hash_is_that_of_the_library(key: [u8; 32], value in prop::collection::vec(any::<u8>(), 0..80)) {
            let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(b"user:").chain_update(&value);
            let digest: [u8; 32] = mac.finalize().into_bytes().into();
            let first = u64::from_be_bytes(*digest.first_chunk().unwrap());
            prop_assert_eq!(HashKey::from_bytes(key).hash(b"user:", &value), first);
        }
    }
}
