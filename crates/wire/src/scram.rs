//! SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677): who knows the password is told from who does not, without either
//! side showing it.
//!
//! Written out here since the library's keeps what is as good as the password. A [`Verifier`] can only be checked against:
//! who steals it can log in nowhere.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// RFC 7677 asks for so many at least. More would slow down who guesses: nobody guesses 32 random bytes.
const ITERATIONS: u32 = 4_096;
const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_BYTES: usize = 16;
const PREFIX: &str = "SCRAM-SHA-256$";

/// What is kept of a password, in the form that Postgres keeps it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no SCRAM-SHA-256 verifier")]
pub struct NotAVerifier;

/// What a client did that no client does who knows the protocol and the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Protocol(&'static str),
    Password,
}

impl Verifier {
    /// Of a password in ASCII, which keys are.
    pub fn new(password: &str, salt: u128) -> Self {
        let salt = salt.to_be_bytes().to_vec();
        let salted = stretch(password.as_bytes(), &salt, ITERATIONS);
        let stored_key = Sha256::digest(mac(&salted, &[b"Client Key"])).into();
        Self { iterations: ITERATIONS, salt, stored_key, server_key: mac(&salted, &[b"Server Key"]) }
    }

    /// Of nobody: looks the same each time to who tries the name, and never fits.
    pub(crate) fn of_nobody(name: &str, secret: u128) -> Self {
        let derive = |what: &[u8]| mac(&secret.to_be_bytes(), &[what, name.as_bytes()]);
        let salt = derive(b"salt")[..SALT_BYTES].to_vec();
        Self { iterations: ITERATIONS, salt, stored_key: derive(b"stored"), server_key: derive(b"server") }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

impl FromStr for Verifier {
    type Err = NotAVerifier;

    fn from_str(text: &str) -> Result<Self, NotAVerifier> {
        let parse = || {
            let (first, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
            let ((iterations, salt), (stored, server)) = (first.split_once(':')?, keys.split_once(':')?);
            let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
            let iterations = iterations.parse().ok().filter(|n| (ITERATIONS..=ITERATIONS_MAX).contains(n))?;
            let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
            Some(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
        };
        parse().ok_or(NotAVerifier)
    }
}

/// A login under way: the client has said its name for the exchange, and is to prove that it knows the password.
#[derive(Debug)]
pub(crate) struct Exchange {
    verifier: Verifier,
    gs2_header: String,
    client_first_bare: String,
    nonce: String,
    pub server_first: String,
}

impl Exchange {
    pub fn begin(client_first: &[u8], verifier: Verifier, server_nonce: u128) -> Result<Self, Fault> {
        let text = std::str::from_utf8(client_first).map_err(|_| Fault::Protocol("the first message is no text"))?;
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Fault::Protocol("the first message is not whole"));
        };
        if !matches!(binding, "n" | "y") {
            return Err(Fault::Protocol("channel binding is not offered"));
        }
        if !identity.is_empty() {
            return Err(Fault::Protocol("nobody logs in as somebody else"));
        }
        let client_nonce = bare.split(',').find_map(|part| part.strip_prefix("r=")).filter(|nonce| !nonce.is_empty());
        let client_nonce = client_nonce.ok_or(Fault::Protocol("the first message has no nonce"))?;
        let nonce = format!("{client_nonce}{}", STANDARD.encode(server_nonce.to_be_bytes()));
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let gs2_header = format!("{binding},,");
        Ok(Self { verifier, gs2_header, client_first_bare: bare.to_owned(), nonce, server_first })
    }

    /// The server's own proof, where the client's holds.
    pub fn finish(&self, client_final: &[u8]) -> Result<String, Fault> {
        let text = std::str::from_utf8(client_final).map_err(|_| Fault::Protocol("the last message is no text"))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Fault::Protocol("the last message has no proof"))?;
        let part = |name: &str| without_proof.split(',').find_map(|part| part.strip_prefix(name));
        if part("c=") != Some(&STANDARD.encode(&self.gs2_header)) {
            return Err(Fault::Protocol("the channel is not the one of the first message"));
        }
        if part("r=") != Some(&self.nonce) {
            return Err(Fault::Protocol("the nonce is not the one of the first message"));
        }
        let proof = STANDARD.decode(proof).ok().and_then(|proof| <[u8; 32]>::try_from(proof).ok());
        let proof = proof.ok_or(Fault::Password)?;
        let said =
            [self.client_first_bare.as_bytes(), b",", self.server_first.as_bytes(), b",", without_proof.as_bytes()];
        let mut client_key = mac(&self.verifier.stored_key, &said);
        client_key.iter_mut().zip(proof).for_each(|(byte, other)| *byte ^= other);
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&self.verifier.stored_key)) {
            return Err(Fault::Password);
        }
        Ok(format!("v={}", STANDARD.encode(mac(&self.verifier.server_key, &said))))
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of key");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// PBKDF2 with one block, which the RFC calls `Hi`.
fn stretch(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut last = mac(password, &[salt, &1_u32.to_be_bytes()]);
    let mut all = last;
    for _ in 1..iterations {
        last = mac(password, &[&last]);
        all.iter_mut().zip(last).for_each(|(byte, other)| *byte ^= other);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    fn of_the_rfc() -> Exchange {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salt = u128::from_be_bytes(salt.try_into().unwrap());
        let verifier = Verifier::new("pencil", salt);
        let mut exchange = Exchange::begin(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", verifier, 0).unwrap();
        // Its server drew this nonce.
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
        exchange.server_first = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", exchange.nonce);
        exchange
    }

    const PROOF: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_exchange_is_the_one_of_the_rfc() {
        let proved = of_the_rfc().finish(PROOF.as_bytes());
        assert_eq!(proved.unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_wrong_password_another_nonce_or_another_channel_is_refused() {
        let exchange = of_the_rfc();
        let check = |from: &str, to: &str, fault: Fault| {
            assert!(PROOF.contains(from));
            assert_eq!(exchange.finish(PROOF.replace(from, to).as_bytes()), Err(fault), "{to}");
        };
        check("p=dHz", "p=dHy", Fault::Password);
        check("p=dHz", "p=", Fault::Password);
        check("k0,", "k1,", Fault::Protocol("the nonce is not the one of the first message"));
        check("c=biws", "c=eSws", Fault::Protocol("the channel is not the one of the first message"));
        check(",p=", ",q=", Fault::Protocol("the last message has no proof"));
        let begin = |first: &[u8]| Exchange::begin(first, Verifier::of_nobody("a", 1), 2).err();
        assert_eq!(begin(b"p=tls-server-end-point,,n=,r=x"), Some(Fault::Protocol("channel binding is not offered")));
        assert_eq!(begin(b"n,a=other,n=,r=x"), Some(Fault::Protocol("nobody logs in as somebody else")));
        assert_eq!(begin(b"n,,n=,r="), Some(Fault::Protocol("the first message has no nonce")));
        assert!(begin(b"n,").is_some() && begin(&[0xff]).is_some());
    }

    #[test]
    fn a_verifier_reads_back_as_it_was_written_and_does_not_hold_the_password() {
        let verifier = Verifier::new("tally_secret", 7);
        let text = verifier.to_string();
        assert_eq!(text.parse(), Ok(verifier));
        assert!(text.starts_with("SCRAM-SHA-256$4096:") && !text.contains("secret"), "{text}");
        for wrong in ["", "SCRAM-SHA-256$", &text[1..], &text[..text.len() - 2], &text.replace("4096", "1")] {
            assert_eq!(wrong.parse::<Verifier>(), Err(NotAVerifier), "{wrong:?}");
        }
    }

    #[test]
    fn who_is_not_known_gets_the_same_answer_each_time_and_a_salt_of_their_own() {
        let of = |name| Verifier::of_nobody(name, 5);
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a").salt, of("b").salt);
        assert_ne!(of("a"), Verifier::of_nobody("a", 6));
    }
}
