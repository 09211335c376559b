//! In which order fields are written. A sender writes all of its events alike, so in a batch the next key is known before it is read.

use super::field::Field;

const FIELDS: usize = Field::ALL.len();
/// Of the fields that may come next, since events leave some out.
const TRIED_MAX: usize = 4;

/// The fields of the events so far, in an order that they all were in; where they differed, in the newest one's as it is found.
#[derive(Debug)]
pub(crate) struct Order {
    fields: [Field; FIELDS],
    known: usize,
    /// Where each field stands among them, counted from 1; 0 where it does not.
    places: [u8; FIELDS],
    /// Where the next one is expected.
    next: usize,
}

impl Default for Order {
    fn default() -> Self {
        Self { fields: [Field::EventId; FIELDS], known: 0, places: [0; FIELDS], next: 0 }
    }
}

impl Order {
    /// A new event.
    pub fn begin(&mut self) {
        self.next = 0;
    }

    /// The field whose key comes next in this JSON, where it is as expected.
    pub fn expected(&mut self, json: &[u8]) -> Option<Field> {
        let upto = self.known.min(self.next + TRIED_MAX);
        let left_out =
            self.fields[self.next..upto].iter().position(|field| json.starts_with(field.json_key().as_bytes()))?;
        let field = self.fields[self.next + left_out];
        self.next += left_out + 1;
        Some(field)
    }

    /// A field that was not expected.
    pub fn found(&mut self, field: Field) {
        let place = usize::from(self.places[field as usize]);
        if place > 0 {
            self.next = place;
            return;
        }
        self.fields.copy_within(self.next..self.known, self.next + 1);
        self.fields[self.next] = field;
        self.known += 1;
        for (at, field) in self.fields[..self.known].iter().enumerate().skip(self.next) {
            self.places[*field as usize] = at as u8 + 1;
        }
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many of an event's fields were as expected.
    fn expected(order: &mut Order, event: &[Field]) -> usize {
        order.begin();
        let read = |field: &&Field| match order.expected(format!("{}1", field.json_key()).as_bytes()) {
            Some(found) => {
                assert_eq!(found, **field);
                true
            }
            None => {
                order.found(**field);
                false
            }
        };
        event.iter().filter(read).count()
    }

    #[test]
    fn an_event_like_those_before_is_as_expected_whatever_it_leaves_out() {
        let mut order = Order::default();
        assert_eq!(expected(&mut order, &[Field::Kind, Field::AdId, Field::Country]), 0);
        assert_eq!(expected(&mut order, &[Field::Kind, Field::AdId, Field::Country]), 3);
        assert_eq!(expected(&mut order, &[Field::Kind, Field::CampaignId, Field::AdId, Field::Gender]), 2);
        assert_eq!(expected(&mut order, &[Field::Kind, Field::CampaignId, Field::AdId, Field::Country]), 4);
        assert_eq!(expected(&mut order, &[Field::Kind, Field::Country]), 2);
    }

    proptest! {
        #[test]
        fn any_events_are_read_in_any_order(events in prop::collection::vec(prop::collection::vec(prop::sample::select(Field::ALL), 0..40), 1..8)) {
            let mut order = Order::default();
            for event in events {
                expected(&mut order, &event);
                let known = &order.fields[..order.known];
                prop_assert!(event.iter().all(|field| known.iter().filter(|known| *known == field).count() == 1));
            }
        }
    }
}
