//! Cells side by side: what a batch adds to the rollups, millions of cells at times, which share their texts.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::{Cell, CellKey, Class, Counts, Grain, Kind, Users, View};

/// A text as a number. 0 is "none".
pub type TextNumber = u32;

/// Texts and their numbers: each is kept once.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    numbers: HashMap<Arc<str>, TextNumber>,
    texts: Vec<Arc<str>>,
}

/// In the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct Cells {
    texts: Arc<Texts>,
    rows: Vec<Row>,
    /// The counters that are not zero, of one row after the other: most rows have one or two.
    counters: Vec<(Counter, u64)>,
    /// The sketches of one row after the other.
    sketches: Vec<u8>,
}

/// Which counter of a cell: a kind and a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Counter(u8);

/// A cell's key with its texts as numbers. Where these are of [sorted](Texts::sorted) texts, in the order of `CellKey`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumberedKey {
    pub grain: Grain,
    pub view: View,
    pub campaign: TextNumber,
    pub bucket_us: i64,
    pub currency: TextNumber,
    /// The values of `View::own_dimensions`, in their order.
    pub values: [TextNumber; 3],
}

#[derive(Debug, Clone, Copy)]
struct Row {
    key: NumberedKey,
    cost_micros: i64,
    revenue_micros: i64,
    /// Where the row's counters and sketch end; they begin where those of the row before it end.
    counters_end: usize,
    sketch_end: usize,
}

/// A cell, borrowed from wherever it is held.
#[derive(Debug, Clone)]
pub struct CellRef<'a> {
    pub grain: Grain,
    pub view: View,
    pub bucket_us: i64,
    pub campaign_id: &'a str,
    pub currency: Option<&'a str>,
    pub values: [Option<&'a str>; 3],
    pub counts: Counts,
    /// The sketch of distinct users, as it is stored.
    pub users: Option<Cow<'a, [u8]>>,
}

impl Counter {
    pub const COUNT: usize = Kind::ALL.len() * Class::ALL.len();

    pub fn of(kind: Kind, class: Class) -> Self {
        Self((kind as usize * Class::ALL.len() + class as usize) as u8)
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Texts {
    /// The number of a text, which it has from now on.
    pub fn number(&mut self, text: Option<&str>) -> TextNumber {
        let Some(text) = text else { return 0 };
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = Arc::from(text);
        self.texts.push(text.clone());
        let number = self.texts.len() as TextNumber;
        self.numbers.insert(text, number);
        number
    }

    /// The number of a text that has one.
    pub fn find(&self, text: &str) -> Option<TextNumber> {
        self.numbers.get(text).copied()
    }

    pub fn text(&self, number: TextNumber) -> Option<&str> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.texts.get(at).map(AsRef::as_ref)
    }

    /// How many numbers there are, that of none included.
    pub fn numbers(&self) -> usize {
        self.texts.len() + 1
    }

    /// Where each number's text stands among all, by their order.
    pub fn ranks(&self) -> Vec<u32> {
        let mut places: Vec<usize> = (0..self.texts.len()).collect();
        places.sort_unstable_by_key(|place| &self.texts[*place]);
        let mut ranks = vec![0; self.numbers()];
        for (rank, place) in places.into_iter().enumerate() {
            ranks[place + 1] = rank as u32 + 1;
        }
        ranks
    }

    /// The same with numbers that rise as the texts do; and what each of the old numbers is now.
    pub fn sorted(mut self) -> (Self, Vec<TextNumber>) {
        let ranks = self.ranks();
        self.texts.sort_unstable();
        self.numbers.values_mut().for_each(|number| *number = ranks[*number as usize]);
        (self, ranks)
    }

    /// About how much memory they take.
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.len() + 64).sum()
    }
}

impl Cells {
    /// The same cells with their texts, which were numbered while they were added.
    pub fn with_texts(self, texts: &Arc<Texts>) -> Self {
        Self { texts: texts.clone(), ..self }
    }

    /// One more cell. Without users, the sketch is empty.
    pub fn add(
        &mut self,
        key: NumberedKey,
        counters: impl IntoIterator<Item = (Counter, u64)>,
        (cost_micros, revenue_micros): (i64, i64),
        sketch: &[u8],
    ) {
        self.counters.extend(counters);
        self.sketches.extend_from_slice(sketch);
        let (counters_end, sketch_end) = (self.counters.len(), self.sketches.len());
        self.rows.push(Row { key, cost_micros, revenue_micros, counters_end, sketch_end });
    }

    /// The cells of another behind these; its numbers are of the same texts.
    pub fn append(&mut self, later: Self) {
        if self.is_empty() {
            *self = Self { texts: self.texts.clone(), ..later };
            return;
        }
        let (counters, sketches) = (self.counters.len(), self.sketches.len());
        self.counters.extend(later.counters);
        self.sketches.extend(later.sketches);
        self.rows.extend(later.rows.into_iter().map(|row| Row {
            counters_end: row.counters_end + counters,
            sketch_end: row.sketch_end + sketches,
            ..row
        }));
    }

    /// Those of each grain and view by themselves, with the same texts.
    pub fn by_slot(&self) -> Vec<(Grain, View, Self)> {
        let mut slots: Vec<(Grain, View, Self)> = Vec::new();
        for at in 0..self.len() {
            let key = *self.key(at);
            let known = slots.iter().rposition(|(grain, view, _)| (*grain, *view) == (key.grain, key.view));
            let slot = known.unwrap_or_else(|| {
                slots.push((key.grain, key.view, Self { texts: self.texts.clone(), ..Self::default() }));
                slots.len() - 1
            });
            slots[slot].2.add(key, self.counters(at).iter().copied(), self.money_micros(at), self.sketch(at));
        }
        slots
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    pub fn key(&self, at: usize) -> &NumberedKey {
        &self.rows[at].key
    }

    /// The counters of a cell that are not zero.
    pub fn counters(&self, at: usize) -> &[(Counter, u64)] {
        let from = at.checked_sub(1).map_or(0, |before| self.rows[before].counters_end);
        &self.counters[from..self.rows[at].counters_end]
    }

    /// What a cell cost, and what it brought.
    pub fn money_micros(&self, at: usize) -> (i64, i64) {
        (self.rows[at].cost_micros, self.rows[at].revenue_micros)
    }

    /// The sketch of a cell's users; empty where it has none.
    pub fn sketch(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.rows[before].sketch_end);
        &self.sketches[from..self.rows[at].sketch_end]
    }

    pub fn get(&self, at: usize) -> CellRef<'_> {
        let (cost_micros, revenue_micros) = self.money_micros(at);
        let mut counts = Counts { cost_micros, revenue_micros, ..Counts::default() };
        for (counter, count) in self.counters(at) {
            counts.events.as_flattened_mut()[counter.index()] = *count;
        }
        let (key, sketch) = (self.key(at), self.sketch(at));
        CellRef {
            grain: key.grain,
            view: key.view,
            bucket_us: key.bucket_us,
            campaign_id: self.texts.text(key.campaign).unwrap_or_default(),
            currency: self.texts.text(key.currency),
            values: key.values.map(|value| self.texts.text(value)),
            counts,
            users: (!sketch.is_empty()).then_some(Cow::Borrowed(sketch)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = CellRef<'_>> {
        (0..self.rows.len()).map(|at| self.get(at))
    }

    /// About how much memory they take, without their texts.
    pub fn bytes(&self) -> usize {
        self.rows.len() * size_of::<Row>() + self.counters.len() * size_of::<(Counter, u64)>() + self.sketches.len()
    }
}

impl Cell {
    pub fn borrowed(&self) -> CellRef<'_> {
        let key = &self.key;
        CellRef {
            grain: key.grain,
            view: key.view,
            bucket_us: key.bucket_us,
            campaign_id: &key.campaign_id,
            currency: key.currency.as_deref(),
            values: [0, 1, 2].map(|at| key.values[at].as_deref()),
            counts: self.counts,
            users: self.users.as_ref().map(|users| Cow::Owned(users.to_bytes())),
        }
    }
}

impl CellRef<'_> {
    pub fn key(&self) -> CellKey {
        CellKey {
            grain: self.grain,
            view: self.view,
            campaign_id: self.campaign_id.into(),
            bucket_us: self.bucket_us,
            currency: self.currency.map(Into::into),
            values: self.values.map(|value| value.map(Into::into)),
        }
    }

    pub fn users(&self) -> Option<Users> {
        let mut users = Users::default();
        // A sketch of our own making can be read.
        users.merge_bytes(self.users.as_deref()?).ok()?;
        Some(users)
    }

    pub fn to_cell(&self) -> Cell {
        Cell { key: self.key(), counts: self.counts, users: self.users() }
    }
}
