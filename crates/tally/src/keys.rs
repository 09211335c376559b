//! API keys: what one may do, and how its secret is known again. Who holds the text `tally_<id>_<secret>` may do what the key's
//! scopes say; the id finds the key, and the secret proves it.

mod file;
mod session;

use std::fmt;

use clap::ValueEnum;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tally_model::Entropy;
use tally_wire::Verifier;

pub use file::{KeyFile, Stamp};
pub use session::Session;

const PREFIX: &str = "tally_";
const SECRET_BYTES: usize = 32;
/// A name is a label of a metric and a word in messages.
const NAME_BYTES_MAX: usize = 64;
/// Each key is a time series; no company gives away more by hand.
pub const KEYS_MAX: usize = 1_000;

/// What a key is for. None includes another: who must do two things gets a key with two scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send events, also in batches and in other people's name
    Ingest,
    /// Ask for reports, proofs, single events and metrics
    Query,
    /// Change figures: rebuild days, resubmit from quarantine
    Admin,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Ingest => "ingest",
            Scope::Query => "query",
            Scope::Admin => "admin",
        }
    }
}

/// A key as it is kept: enough to know its secret again, not enough to say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub id: KeyId,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// One round of a fast hash: slow ones are for what people make up. Of 32 random bytes nobody can try a share worth naming,
    /// and a request must not wait for a hash that is slow on purpose.
    secret_sha256: SecretHash,
    /// The same for the Postgres wire, which asks in another way. Of keys for `query`; none of those made before it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scram: Option<String>,
    /// Seconds since the Unix epoch.
    pub created_at_s: i64,
    pub expires_at_s: Option<i64>,
}

/// Tells a key without giving it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct SecretHash([u8; 32]);

/// What whoever sends a request holds. It has no `Debug`, so that it gets into no log.
pub struct Token {
    pub id: KeyId,
    secret: [u8; SECRET_BYTES],
}

impl Key {
    /// A new key, and the only copy of its token.
    pub fn new(
        name: &str,
        scopes: Vec<Scope>,
        created_at_s: i64,
        expires_at_s: Option<i64>,
        entropy: &dyn Entropy,
    ) -> (Self, Token) {
        let token = Token { id: KeyId(entropy.bits() as u32), secret: random_secret(entropy) };
        let scram = scopes.contains(&Scope::Query).then(|| Verifier::new(&token.reveal(), entropy.bits()).to_string());
        let (id, name, secret_sha256) = (token.id, name.to_owned(), token.hash());
        (Self { id, name, scopes, secret_sha256, scram, created_at_s, expires_at_s }, token)
    }

    /// In the same time whether or where they differ.
    pub fn is_proved_by(&self, token: &Token) -> bool {
        self.secret_sha256.0.ct_eq(&token.hash().0).into()
    }

    /// What the Postgres wire checks a login against.
    pub fn verifier(&self) -> Option<Verifier> {
        self.scram.as_ref()?.parse().ok()
    }

    /// What shows that a session was opened with this key, without the key itself. Keyed with what only we and the key's file
    /// have: it ends with the key, and outlives a restart.
    pub fn session_proof(&self, expires_at_s: i64) -> [u8; SECRET_BYTES] {
        #[allow(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104)")]
        let mac = Hmac::<Sha256>::new_from_slice(&self.secret_sha256.0).expect("any length of key");
        let mac = mac.chain_update(b"tally session 1").chain_update(self.id.0.to_be_bytes());
        mac.chain_update(expires_at_s.to_be_bytes()).finalize().into_bytes().into()
    }

    pub fn is_expired(&self, now_s: i64) -> bool {
        self.expires_at_s.is_some_and(|expires_at_s| now_s >= expires_at_s)
    }
}

/// Letters, digits, `.`, `_` and `-`: fit for a metric, a shell and a log line.
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

impl Token {
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        Some(Self { id: KeyId::try_from(id.to_owned()).ok()?, secret: bytes_of(secret)? })
    }

    /// The text itself, for the one who asked for it.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, hex(&self.secret))
    }

    fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.secret).into())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = bytes_of::<4>(&text).ok_or_else(|| format!("{text:?} is no id of a key"))?;
        Ok(Self(u32::from_be_bytes(bytes)))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for SecretHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        bytes_of(&text).map(Self).ok_or_else(|| "a secret's hash is not 64 hexadecimal digits".to_owned())
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        hex(&hash.0)
    }
}

/// An `Entropy` gives at least 122 unpredictable bits a draw; four draws, condensed, leave no fixed bit in the secret.
fn random_secret(entropy: &dyn Entropy) -> [u8; SECRET_BYTES] {
    let mut digest = Sha256::new();
    for _ in 0..4 {
        digest.update(entropy.bits().to_be_bytes());
    }
    digest.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So many bytes in lower-case hexadecimal digits; one spelling only.
fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::SeededEntropy;

    fn key(seed: u64, expires_at_s: Option<i64>) -> (Key, Token) {
        Key::new("k", vec![Scope::Query], 0, expires_at_s, &SeededEntropy::new(seed))
    }

    #[test]
    fn a_key_is_proved_by_its_own_token_only() {
        let ((one, token), (other, _)) = (key(1, None), key(2, None));
        let token = Token::parse(&token.reveal()).unwrap();
        assert!(token.id == one.id && one.is_proved_by(&token) && !other.is_proved_by(&token));
        let mut wrong = token.reveal();
        let last = if wrong.ends_with('0') { "1" } else { "0" };
        wrong.replace_range(wrong.len() - 1.., last);
        assert!(!one.is_proved_by(&Token::parse(&wrong).unwrap()), "one bit off");
    }

    #[test]
    fn what_is_no_token_is_none() {
        let whole = key(1, None).1.reveal();
        assert_eq!(whole.len(), 79);
        for wrong in ["", "tally_", "tally__", &whole[1..], &whole[..78], &whole.to_uppercase(), &format!("{whole}0")] {
            assert!(Token::parse(wrong).is_none(), "{wrong:?} was taken for a token");
        }
    }

    #[test]
    fn what_is_kept_does_not_hold_the_secret() {
        let (key, token) = key(1, Some(7));
        let kept = serde_json::to_string(&key).unwrap();
        assert!(!kept.contains(&hex(&token.secret)) && kept.contains("SCRAM-SHA-256$4096:"), "{kept}");
        assert_eq!(serde_json::from_str::<Key>(&kept).unwrap(), key);
    }

    #[test]
    fn a_key_ends_at_the_second_that_it_says() {
        let key = key(1, Some(100)).0;
        assert_eq!([99, 100].map(|now_s| key.is_expired(now_s)), [false, true]);
        assert!(!self::key(1, None).0.is_expired(i64::MAX));
    }

    #[test]
    fn a_name_is_fit_for_a_label() {
        assert!(["a", "grafana-prod_2.eu", &"x".repeat(64)].into_iter().all(is_name));
        assert!(!["", "two words", "ü", "a\"b", &"x".repeat(65)].into_iter().any(is_name));
    }
}
