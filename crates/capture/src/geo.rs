//! Where a visitor is: from what a CDN in front of us says, or from a file in MaxMind's format. The address itself is forgotten here.

#[cfg(test)]
pub(crate) mod fixture;

use std::net::IpAddr;
use std::path::Path;

use axum::http::{HeaderMap, HeaderName};
use maxminddb::Reader;
use serde::Deserialize;
use tally_model::{Country, Subdivision};

use crate::file::{FileError, Named};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub country: Option<Country>,
    pub subdivision: Option<Subdivision>,
}

impl Place {
    /// Codes that mean nothing become nothing: `XX` and `ZZ` (unknown), `T1` (Tor), `**` and `reserved`.
    fn of(country: Option<&str>, part: Option<&str>) -> Self {
        let country = country.and_then(Country::parse).filter(|country| !matches!(country.as_str(), "XX" | "ZZ"));
        let subdivision = country.zip(part).and_then(|(country, part)| Subdivision::of(country, part));
        Self { country, subdivision }
    }
}

/// Which headers a trusted proxy names the visitor's place in. Taken from one kind of proxy only: the headers of another would be
/// whatever the visitor sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlaceHeaders {
    Cloudflare,
    CloudFront,
    /// Has no headers of its own: these are the names in Fastly's examples of VCL.
    Fastly,
    Akamai,
    /// A proxy of another kind.
    Country(HeaderName),
}

impl PlaceHeaders {
    /// By the name of the CDN.
    pub fn of_cdn(name: &str) -> Option<Self> {
        match name {
            "cloudflare" => Some(Self::Cloudflare),
            "cloudfront" => Some(Self::CloudFront),
            "fastly" => Some(Self::Fastly),
            "akamai" => Some(Self::Akamai),
            _ => None,
        }
    }

    pub fn place(&self, headers: &HeaderMap) -> Place {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::Cloudflare => Place::of(text("cf-ipcountry"), text("cf-region-code")),
            Self::CloudFront => Place::of(text("cloudfront-viewer-country"), text("cloudfront-viewer-country-region")),
            Self::Fastly => Place::of(text("client-geo-country"), text("client-geo-region")),
            Self::Akamai => {
                let edgescape = text("x-akamai-edgescape").unwrap_or_default();
                let value = |name: &str| {
                    let mut pairs = edgescape.split(',').filter_map(|pair| pair.trim().split_once('='));
                    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
                };
                Place::of(value("country_code"), value("region_code"))
            }
            Self::Country(name) => Place::of(text(name.as_str()), None),
        }
    }
}

/// A file that tells the place of an address, held in memory.
pub(crate) struct GeoTable(Reader<Vec<u8>>);

impl GeoTable {
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let file = Named { what: "the geography file", path };
        let bytes = std::fs::read(path).map_err(file.failed("read"))?;
        let reader = Reader::from_source(bytes);
        reader.map(Self).map_err(|error| file.wrong(format!("is not in MaxMind's format: {error}")))
    }

    /// Nothing where the file does not know, or is damaged at that place.
    pub fn place(&self, address: IpAddr) -> Place {
        let found = self.0.lookup(address).and_then(|found| found.decode::<Found<'_>>());
        let found = found.ok().flatten().unwrap_or_default();
        let part = found.subdivisions.first().and_then(|part| part.iso_code);
        Place::of(found.country.iso_code, part)
    }
}

/// What we read of an entry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found<'a> {
    #[serde(borrow)]
    country: Coded<'a>,
    /// The largest first.
    #[serde(borrow)]
    subdivisions: Vec<Coded<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Coded<'a> {
    iso_code: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cdn: &str, headers: &[(&'static str, &str)], country: Option<&str>, subdivision: Option<&str>) {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let place = PlaceHeaders::of_cdn(cdn).unwrap().place(&HeaderMap::from_iter(headers));
        let found = (place.country.map(|country| country.as_str().to_owned()), place.subdivision);
        assert_eq!(found.0.as_deref(), country, "{cdn}");
        assert_eq!(found.1.as_ref().map(Subdivision::as_str), subdivision, "{cdn}");
    }

    #[test]
    fn each_cdn_names_the_place_in_its_own_way() {
        check("cloudflare", &[("cf-ipcountry", "US"), ("cf-region-code", "TX")], Some("US"), Some("US-TX"));
        check("cloudflare", &[("cf-ipcountry", "de")], Some("DE"), None);
        let cloudfront = [("cloudfront-viewer-country", "US"), ("cloudfront-viewer-country-region", "MI")];
        check("cloudfront", &cloudfront, Some("US"), Some("US-MI"));
        check("fastly", &[("client-geo-country", "GB"), ("client-geo-region", "ENG")], Some("GB"), Some("GB-ENG"));
        let edgescape = "georegion=246,country_code=US, region_code=CA,city=SANFRANCISCO,dma=807";
        check("akamai", &[("x-akamai-edgescape", edgescape)], Some("US"), Some("US-CA"));
        assert_eq!(PlaceHeaders::of_cdn("akami"), None);
    }

    #[test]
    fn what_means_unknown_is_unknown() {
        for (country, region) in [("XX", "TX"), ("T1", ""), ("", "TX"), ("**", "***"), ("ZZ", "")] {
            check("cloudflare", &[("cf-ipcountry", country), ("cf-region-code", region)], None, None);
        }
        check("fastly", &[("client-geo-country", "DE"), ("client-geo-region", "NO REGION")], Some("DE"), None);
        check("akamai", &[("x-akamai-edgescape", "country_code=reserved,region_code=reserved")], None, None);
        check("akamai", &[("cf-ipcountry", "US")], None, None);
    }

    #[test]
    fn a_file_tells_the_place_of_an_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("geo.mmdb");
        std::fs::write(&path, fixture::mmdb(&[("198.51.100.0/24", "DE", Some("BE")), ("203.0.113.0/25", "us", None)]))
            .unwrap();
        let table = GeoTable::load(&path).unwrap();
        let check = |address: &str, country: Option<&str>, part: Option<&str>| {
            assert_eq!(table.place(address.parse().unwrap()), Place::of(country, part), "{address}");
        };
        check("198.51.100.4", Some("DE"), Some("BE"));
        check("203.0.113.9", Some("US"), None);
        check("203.0.113.200", None, None);
        check("8.8.8.8", None, None);
        // The file has version 4 only.
        check("2001:db8::1", None, None);
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_one_that_is_damaged_answers_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("geo.mmdb");
        assert!(GeoTable::load(&path).is_err());
        std::fs::write(&path, "<html>").unwrap();
        let error = GeoTable::load(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("not in MaxMind's format"), "{error}");
        let whole = fixture::mmdb(&[("198.51.100.0/24", "DE", Some("BE"))]);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xFF;
            std::fs::write(&path, damaged).unwrap();
            if let Ok(table) = GeoTable::load(&path) {
                table.place("198.51.100.4".parse().unwrap());
            }
        }
    }
}
