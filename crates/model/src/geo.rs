//! Countries, and the four storage regions that they belong to.

use serde::{Deserialize, Serialize};

/// ISO 3166-1 alpha-2 code in upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Country([u8; 2]);

impl Country {
    /// Takes two ASCII letters of either case; anything else is no country code.
    pub fn parse(code: &str) -> Option<Self> {
        match code.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Some(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

/// Where an event is stored: the second partition level of the raw table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    Na,
    Eu,
    Apac,
    Other,
}

impl Region {
    pub const ALL: [Region; 4] = [Region::Na, Region::Eu, Region::Apac, Region::Other];

    pub fn as_str(self) -> &'static str {
        match self {
            Region::Na => "na",
            Region::Eu => "eu",
            Region::Apac => "apac",
            Region::Other => "other",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|region| region.as_str() == name)
    }

    /// `na`: United States, Canada, Mexico. `eu`: the EEA, Switzerland and the United Kingdom (one privacy regime, near
    /// enough). `apac`: UN M49 Eastern, South-eastern and Southern Asia, Australia and New Zealand.
    pub fn of(country: Option<Country>) -> Self {
        let Some(country) = country else { return Region::Other };
        match country.as_str() {
            "US" | "CA" | "MX" => Region::Na,
            "AT" | "BE" | "BG" | "HR" | "CY" | "CZ" | "DK" | "EE" | "FI" | "FR" | "DE" | "GR" | "HU" | "IE" | "IT"
            | "LV" | "LT" | "LU" | "MT" | "NL" | "PL" | "PT" | "RO" | "SK" | "SI" | "ES" | "SE" | "IS" | "LI"
            | "NO" | "CH" | "GB" => Region::Eu,
            "CN" | "HK" | "MO" | "JP" | "KR" | "KP" | "MN" | "TW" | "BN" | "KH" | "ID" | "LA" | "MY" | "MM" | "PH"
            | "SG" | "TH" | "TL" | "VN" | "AF" | "BD" | "BT" | "IN" | "IR" | "MV" | "NP" | "PK" | "LK" | "AU"
            | "NZ" => Region::Apac,
            _ => Region::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_code_is_two_letters_of_either_case() {
        assert_eq!(Country::parse("de").map(|c| c.as_str().to_owned()).as_deref(), Some("DE"));
        for wrong in ["", "D", "DEU", "D1", "Ä", "  "] {
            assert_eq!(Country::parse(wrong), None, "{wrong:?} was taken for a country");
        }
    }

    #[test]
    fn an_unknown_country_is_stored_under_other() {
        assert_eq!(Region::of(None), Region::Other);
        assert_eq!(Region::of(Country::parse("BR")), Region::Other);
        assert_eq!(Region::of(Country::parse("jp")), Region::Apac);
    }
}
