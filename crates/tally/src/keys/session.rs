//! What a browser shows instead of a key after it signed in: which key, until when, and a proof of both.

use subtle::ConstantTimeEq;

use super::{Key, KeyId, SECRET_BYTES, bytes_of, hex};

/// Read from a cookie: `<id>.<expires_at_s>.<proof>`. It has no `Debug`, so that it gets into no log.
pub struct Session {
    pub id: KeyId,
    pub expires_at_s: i64,
    proof: [u8; SECRET_BYTES],
}

impl Session {
    pub fn open(key: &Key, expires_at_s: i64) -> Self {
        Self { id: key.id, expires_at_s, proof: key.session_proof(expires_at_s) }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let id = KeyId::try_from(parts.next()?.to_owned()).ok()?;
        let expires_at_s = parts.next()?.parse().ok()?;
        Some(Self { id, expires_at_s, proof: bytes_of(parts.next()?)? })
    }

    /// The text itself, for the one who signed in.
    pub fn reveal(&self) -> String {
        format!("{}.{}.{}", self.id, self.expires_at_s, hex(&self.proof))
    }

    /// In the same time whether or where they differ.
    pub fn is_proved_by(&self, key: &Key) -> bool {
        key.session_proof(self.expires_at_s).ct_eq(&self.proof).into()
    }
}

#[cfg(test)]
mod tests {
    use tally_model::SeededEntropy;

    use super::super::Scope;
    use super::*;

    fn key(seed: u64) -> Key {
        Key::new("k", vec![Scope::Query], 0, None, &SeededEntropy::new(seed)).0
    }

    #[test]
    fn a_session_is_of_one_key_and_one_time() {
        let text = Session::open(&key(1), 100).reveal();
        let read = Session::parse(&text).unwrap();
        assert!(read.is_proved_by(&key(1)) && !read.is_proved_by(&key(2)));
        let longer = Session::parse(&text.replace(".100.", ".999.")).unwrap();
        assert!(!longer.is_proved_by(&key(1)), "somebody gave himself more time");
    }

    #[test]
    fn what_is_no_session_is_none() {
        let text = Session::open(&key(1), 100).reveal();
        for wrong in
            ["", ".", "..", &text[1..], &text[..text.len() - 1], &text.replace(".100.", ".x."), &format!("{text}0")]
        {
            assert!(Session::parse(wrong).is_none(), "{wrong:?} was taken for a session");
        }
    }
}
