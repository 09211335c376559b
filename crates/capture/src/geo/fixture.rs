//! Writes small files in MaxMind's format (version 2.0 of its specification), for tests.

use std::net::Ipv4Addr;

/// Between the tree and the data.
const SEPARATOR_BYTES: usize = 16;

/// A file that knows these networks of version 4: block, country, and the part of the country.
pub fn mmdb(networks: &[(&str, &str, Option<&str>)]) -> Vec<u8> {
    let mut nodes = vec![[Record::None; 2]];
    let mut data = Vec::new();
    for (block, country, part) in networks {
        let (address, prefix_bits) = block.split_once('/').unwrap();
        let address: Ipv4Addr = address.parse().unwrap();
        let prefix_bits: usize = prefix_bits.parse().unwrap();
        let offset = data.len();
        entry(&mut data, country, *part);
        let mut node = 0;
        for bit in 0..prefix_bits {
            let side = (address.to_bits() >> (31 - bit) & 1) as usize;
            if bit + 1 == prefix_bits {
                nodes[node][side] = Record::Data(offset);
                break;
            }
            node = match nodes[node][side] {
                Record::Node(next) => next,
                _ => {
                    nodes.push([Record::None; 2]);
                    nodes[node][side] = Record::Node(nodes.len() - 1);
                    nodes.len() - 1
                }
            };
        }
    }
    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match record {
            Record::None => nodes.len(),
            Record::Node(node) => *node,
            Record::Data(offset) => nodes.len() + SEPARATOR_BYTES + offset,
        };
        file.extend_from_slice(&(value as u32).to_be_bytes()[1..]);
    }
    file.extend_from_slice(&[0; SEPARATOR_BYTES]);
    file.extend_from_slice(&data);
    file.extend_from_slice(b"\xAB\xCD\xEFMaxMind.com");
    metadata(&mut file, nodes.len());
    file
}

#[derive(Clone, Copy)]
enum Record {
    None,
    Node(usize),
    Data(usize),
}

fn entry(data: &mut Vec<u8>, country: &str, part: Option<&str>) {
    map(data, 1 + usize::from(part.is_some()));
    text(data, "country");
    coded(data, country);
    if let Some(part) = part {
        text(data, "subdivisions");
        // An array of one.
        data.extend_from_slice(&[1, 11 - 7]);
        coded(data, part);
    }
}

fn coded(data: &mut Vec<u8>, code: &str) {
    map(data, 1);
    text(data, "iso_code");
    text(data, code);
}

fn metadata(file: &mut Vec<u8>, nodes: usize) {
    map(file, 9);
    number(file, "node_count", 6, &(nodes as u32).to_be_bytes());
    number(file, "record_size", 5, &24_u16.to_be_bytes());
    number(file, "ip_version", 5, &4_u16.to_be_bytes());
    number(file, "binary_format_major_version", 5, &2_u16.to_be_bytes());
    number(file, "binary_format_minor_version", 5, &0_u16.to_be_bytes());
    text(file, "build_epoch");
    file.extend_from_slice(&[8, 9 - 7]);
    file.extend_from_slice(&1_700_000_000_u64.to_be_bytes());
    text(file, "database_type");
    text(file, "Test-City");
    text(file, "languages");
    file.extend_from_slice(&[0, 11 - 7]);
    text(file, "description");
    map(file, 0);
}

fn number(file: &mut Vec<u8>, name: &str, kind: u8, bytes: &[u8]) {
    text(file, name);
    file.push(kind << 5 | bytes.len() as u8);
    file.extend_from_slice(bytes);
}

fn map(data: &mut Vec<u8>, pairs: usize) {
    data.push(7 << 5 | pairs as u8);
}

/// Up to 28 bytes, which are told in the first byte.
fn text(data: &mut Vec<u8>, text: &str) {
    data.push(2 << 5 | text.len() as u8);
    data.extend_from_slice(text.as_bytes());
}
