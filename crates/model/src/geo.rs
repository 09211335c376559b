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

/// ISO 3166-2 code in upper case: the country, a hyphen, and one to three letters or digits, such as `US-CA`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subdivision {
    country: Country,
    code: String,
}

impl Subdivision {
    const PART_BYTES_MAX: usize = 3;

    /// Takes the whole code, in either case.
    pub fn parse(code: &str) -> Option<Self> {
        let (country, part) = code.split_once('-')?;
        Self::of(Country::parse(country)?, part)
    }

    /// From the country and the code of its part.
    pub fn of(country: Country, part: &str) -> Option<Self> {
        let is_part =
            (1..=Self::PART_BYTES_MAX).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let code = || format!("{}-{}", country.as_str(), part.to_ascii_uppercase());
        is_part.then(|| Self { country, code: code() })
    }

    pub fn as_str(&self) -> &str {
        &self.code
    }

    pub fn country(&self) -> Country {
        self.country
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
    fn a_subdivision_is_a_country_and_its_part() {
        let check = |code: &str, expected: Option<&str>| {
            assert_eq!(Subdivision::parse(code).as_ref().map(Subdivision::as_str), expected, "{code:?}");
        };
        check("us-ca", Some("US-CA"));
        check("GB-ENG", Some("GB-ENG"));
        check("AT-9", Some("AT-9"));
        for wrong in ["", "US", "US-", "US-CALI", "USA-CA", "U-CA", "US-C.", "US-Ä", "US--1"] {
            check(wrong, None);
        }
        assert_eq!(Subdivision::parse("us-ca").map(|part| part.country()), Country::parse("US"));
    }

    #[test]
    fn an_unknown_country_is_stored_under_other() {
        assert_eq!(Region::of(None), Region::Other);
        assert_eq!(Region::of(Country::parse("BR")), Region::Other);
        assert_eq!(Region::of(Country::parse("jp")), Region::Apac);
    }
}
