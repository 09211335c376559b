//! Signed links: who holds a key of this file may send people wherever a campaign leads, without a list of hosts.
//!
//! A signature covers every parameter of the link that stands in front of it, names and values as they are after decoding, so
//! that a proxy may encode them otherwise. What stands behind it is free: that is where an ad server fills in what it knows.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tally_model::Entropy;
use url::form_urlencoded;

use crate::error::Fault;
use crate::file::{FileError, KEY_BYTES, Named, random_key};

/// The parameter that carries a signature.
pub(crate) const SIGNATURE: &str = "sig";
/// One that signs, and those whose links are still out.
const KEYS_MAX: usize = 64;
const ID_BYTES_MAX: usize = 16;
/// Half of the hash, the least that RFC 2104 recommends: 128 bits cannot be guessed, and links are long enough.
const MAC_BYTES: usize = 16;
/// What a key signs.
const LINK: &str = "tally link 1";
const POSTBACK: &str = "tally postback 1";
const HEADER: &str =
    "# Keys that sign links to /v1/click: an id, and 32 bytes in hexadecimal. The last one signs, all are taken.\n";
const WHAT: &str = "the file of signing keys";

/// The keys of a data folder, oldest first.
#[derive(Clone)]
pub struct SigningKeys(Vec<SigningKey>);

#[derive(Clone)]
struct SigningKey {
    id: String,
    mac: Hmac<Sha256>,
}

impl SigningKeys {
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let file = Named { what: WHAT, path };
        let bytes = file.read_secret()?.ok_or_else(|| file.wrong("does not exist; `tally sign-link` makes it"))?;
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(|wrong| file.wrong(wrong))
    }

    /// Reads the keys, or makes the first.
    pub fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Self, FileError> {
        let file = Named { what: WHAT, path };
        if file.read_secret()?.is_none() {
            file.write_secret(format!("{HEADER}{}", line("k1", entropy)).as_bytes(), entropy)?;
        }
        Self::load(path)
    }

    /// Adds a key, which signs from now on. The others are taken until their lines are removed.
    pub fn rotate(path: &Path, entropy: &dyn Entropy) -> Result<Self, FileError> {
        let file = Named { what: WHAT, path };
        let keys = Self::load_or_create(path, entropy)?;
        let text = file.read_secret()?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let number = (1..).find(|number| keys.key(&format!("k{number}")).is_none()).unwrap_or_default();
        let text = format!("{}\n{}", text.trim_end(), line(&format!("k{number}"), entropy));
        Self::parse(&text).map_err(|wrong| file.wrong(wrong))?;
        file.write_secret(text.as_bytes(), entropy)?;
        Self::load(path)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<SigningKey> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = SigningKey::parse(line).ok_or_else(|| {
                format!("has no key in line {}; write an id and {} hexadecimal digits", at + 1, 2 * KEY_BYTES)
            })?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(format!("has two keys with the id `{}`; give one of them another", key.id));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err("has no key; delete it, and `tally sign-link` makes one".to_owned()),
            1..=KEYS_MAX => Ok(Self(keys)),
            more => Err(format!("has {more} keys, at most {KEYS_MAX} are taken; remove the oldest")),
        }
    }

    fn key(&self, id: &str) -> Option<&SigningKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// The query of a link: the parameters, and behind them their signature. None where there is no such key.
    pub fn sign(&self, key_id: Option<&str>, pairs: &[(String, String)], expires_at_s: Option<i64>) -> Option<String> {
        let key = match key_id {
            Some(id) => self.key(id)?,
            None => self.0.last()?,
        };
        let expires = expires_at_s.map(|at_s| at_s.to_string()).unwrap_or_default();
        let mac = key.mac_of(&expires, pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mac = URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..MAC_BYTES]);
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(pairs).append_pair(SIGNATURE, &format!("{}.{expires}.{mac}", key.id));
        Some(query.finish())
    }

    /// The word that lets postbacks in: for one campaign, or with an empty name for all. None where there is no such key.
    pub fn postback_token(&self, key_id: Option<&str>, campaign_id: &str) -> Option<String> {
        let key = match key_id {
            Some(id) => self.key(id)?,
            None => self.0.last()?,
        };
        let mac = key.mac_over(POSTBACK, [campaign_id].into_iter()).finalize().into_bytes();
        Some(format!("{}.{}", key.id, URL_SAFE_NO_PAD.encode(&mac[..MAC_BYTES])))
    }

    /// Whether such a word was made for this campaign, or for all.
    pub(crate) fn lets_in(&self, token: &str, campaign_id: &str) -> bool {
        let Some((id, mac)) = token.split_once('.') else { return false };
        let mac = URL_SAFE_NO_PAD.decode(mac).ok().filter(|mac| mac.len() == MAC_BYTES);
        let (Some(key), Some(mac)) = (self.key(id), mac) else { return false };
        // Compared in constant time, and both whatever the first says.
        let holds = |campaign_id| key.mac_over(POSTBACK, [campaign_id].into_iter()).verify_truncated_left(&mac).is_ok();
        holds(campaign_id) | holds("")
    }

    /// Whether a signature is one of these parameters, and still good.
    pub(crate) fn verify<'a>(
        &self,
        signature: &'a str,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        now_s: i64,
    ) -> Result<(), Fault> {
        const CURE: &str = "take the link as `tally sign-link` printed it; what is added goes behind `sig`";
        let wrong = |what: &str| Fault::new(SIGNATURE, what.to_owned(), CURE);
        let mut parts = signature.split('.');
        let (Some(id), Some(expires), Some(mac), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("is no signature"));
        };
        let Some(key) = self.key(id) else {
            return Err(wrong("was made with a key that is not among the signing keys"));
        };
        let mac = URL_SAFE_NO_PAD.decode(mac).ok().filter(|mac| mac.len() == MAC_BYTES);
        // Compared in constant time: how much of a guess was right must not show.
        let holds = mac.is_some_and(|mac| key.mac_of(expires, pairs).verify_truncated_left(&mac).is_ok());
        if !holds {
            return Err(wrong("does not belong to this link"));
        }
        // Only now: before that, it is anybody's word.
        match expires.parse::<i64>() {
            Ok(expires_at_s) if now_s >= expires_at_s => {
                Err(Fault::new(SIGNATURE, "has expired", "sign the link anew, with a later --expires"))
            }
            _ => Ok(()),
        }
    }
}

impl SigningKey {
    fn parse(line: &str) -> Option<Self> {
        let (id, key) = line.split_once(char::is_whitespace)?;
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if id.len() > ID_BYTES_MAX || !id.bytes().all(is_id) {
            return None;
        }
        let key = from_hex(key.trim())?;
        Some(Self { id: id.to_owned(), mac: Hmac::new_from_slice(&key).ok()? })
    }

    fn mac_of<'a>(&self, expires: &'a str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Hmac<Sha256> {
        self.mac_over(LINK, std::iter::once(expires).chain(pairs.flat_map(|(name, value)| [name, value])))
    }

    /// Over everything with its length, so that no two links have the same bytes; and what it is for, so that none is another's.
    fn mac_over<'a>(&self, purpose: &'a str, texts: impl Iterator<Item = &'a str>) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        for text in std::iter::once(purpose).chain(texts) {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} secrets)", self.0.len())
    }
}

fn line(id: &str, entropy: &dyn Entropy) -> String {
    let key: String = random_key(entropy).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{id} {key}\n")
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    let digits = text.as_bytes();
    if digits.len() != 2 * KEY_BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, at) in key.iter_mut().zip((0..digits.len()).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::SeededEntropy;

    const NOW_S: i64 = 1_700_000_000;

    fn keys(ids: &[&str]) -> SigningKeys {
        let entropy = SeededEntropy::new(1);
        SigningKeys::parse(&ids.iter().map(|id| line(id, &entropy)).collect::<String>()).unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn verify(keys: &SigningKeys, query: &str, now_s: i64) -> Result<(), String> {
        let all: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let at = all.iter().position(|(name, _)| name == SIGNATURE).unwrap();
        let signed = all[..at].iter().map(|(name, value)| (name.as_str(), value.as_str()));
        keys.verify(&all[at].1, signed, now_s).map_err(|fault| fault.what)
    }

    #[test]
    fn a_link_holds_until_it_expires_and_with_no_other_value() {
        let keys = keys(&["k1"]);
        let link = pairs(&[("campaign_id", "spring"), ("to", "https://shop.example/ä?a=b&c=d")]);
        let query = keys.sign(None, &link, Some(NOW_S + 10)).unwrap();
        assert_eq!(verify(&keys, &query, NOW_S + 9), Ok(()));
        assert_eq!(verify(&keys, &query, NOW_S + 10).unwrap_err(), "has expired");
        assert_eq!(verify(&keys, &query.replace("%2F", "/").replace("%3A", ":"), NOW_S), Ok(()), "encoded otherwise");
        for (from, to) in [
            ("spring", "summer"),
            ("shop", "evil"),
            ("campaign_id", "publisher_id"),
            ("campaign_id=spring&", ""),
            ("campaign_id=spring", "campaign_id=spring&cost_micros=9"),
            ("1700000010", "1700009999"),
            ("1700000010", ""),
        ] {
            let other = query.replacen(from, to, 1);
            assert_eq!(verify(&keys, &other, NOW_S).unwrap_err(), "does not belong to this link", "{other}");
        }
        let forever = keys.sign(None, &link, None).unwrap();
        assert_eq!(verify(&keys, &forever, i64::MAX), Ok(()));
    }

    #[test]
    fn keys_are_rotated_without_breaking_the_links_that_are_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.keys");
        let link = pairs(&[("to", "https://shop.example/")]);
        let first = SigningKeys::load_or_create(&path, &SeededEntropy::new(1)).unwrap();
        let old = first.sign(None, &link, None).unwrap();
        assert!(old.contains("sig=k1."), "{old}");
        let both = SigningKeys::rotate(&path, &SeededEntropy::new(2)).unwrap();
        let new = both.sign(None, &link, None).unwrap();
        assert!(new.contains("sig=k2."), "{new}");
        assert_eq!((verify(&both, &old, NOW_S), verify(&both, &new, NOW_S)), (Ok(()), Ok(())));
        assert_eq!(both.sign(Some("k1"), &link, None), Some(old.clone()));
        assert_eq!(both.sign(Some("k9"), &link, None), None);

        let text = std::fs::read_to_string(&path).unwrap();
        let without: String =
            text.lines().filter(|line| !line.starts_with("k1")).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, without).unwrap();
        let last = SigningKeys::load(&path).unwrap();
        assert!(verify(&last, &old, NOW_S).unwrap_err().contains("not among the signing keys"));
        assert_eq!(verify(&last, &new, NOW_S), Ok(()));
    }

    #[test]
    fn a_token_lets_in_the_postbacks_of_its_campaign_and_one_for_all_those_of_any() {
        let keys = keys(&["k1", "k2"]);
        let (spring, all) =
            (keys.postback_token(Some("k1"), "spring").unwrap(), keys.postback_token(None, "").unwrap());
        assert!(spring.starts_with("k1.") && all.starts_with("k2."), "{spring} {all}");
        assert!(keys.lets_in(&spring, "spring") && !keys.lets_in(&spring, "summer") && !keys.lets_in(&spring, ""));
        assert!(keys.lets_in(&all, "spring") && keys.lets_in(&all, ""));
        let link = keys.sign(None, &pairs(&[]), None).unwrap();
        let (_, mac) = link.rsplit_once('.').unwrap();
        for wrong in ["", ".", "k1", "k1.", "k9.AAAA", &spring[..spring.len() - 1], &format!("k2.{mac}")] {
            assert!(!keys.lets_in(wrong, "") && !keys.lets_in(wrong, "spring"), "{wrong:?} was taken for a token");
        }
    }

    #[test]
    fn what_is_no_signature_is_told_so_and_nothing_panics() {
        let keys = keys(&["k1"]);
        for signature in ["", ".", "k1", "k1..", "k1..AAAA", "k1.x.AAAAAAAAAAAAAAAAAAAAAA", "k1.1.2.3", "k\u{e4}..é"] {
            assert!(keys.verify(signature, std::iter::empty(), NOW_S).is_err(), "{signature:?} was taken");
        }
    }

    #[test]
    fn a_file_that_is_none_of_keys_is_refused_with_the_line() {
        let key = "00".repeat(KEY_BYTES);
        for (text, says) in [
            (String::new(), "has no key"),
            ("# only a comment".into(), "has no key"),
            (format!("k1 {key}\nk2 12"), "line 2"),
            (format!("k.1 {key}"), "line 1"),
            (format!("k1 {}", "ä".repeat(KEY_BYTES)), "line 1"),
            (format!("k1 {key}\nk1 {key}"), "two keys"),
        ] {
            let wrong = SigningKeys::parse(&text).unwrap_err();
            assert!(wrong.contains(says), "{text:?}: {wrong}");
        }
        assert!(!format!("{:?}", keys(&["k1"])).contains("00"), "a key is printed");
    }
}
