//! Judged events as rows of `events`, column by column while they come.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Float32Builder, Int16Builder, Int32Builder, Int64Builder, ListBuilder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field};
use tally_model::{ConversionStatus, Country, Judged, Purpose, Subdivision};

use crate::error::{LakeError, Result};
use crate::event_files::{EncodingThread, Piece, Place};
use crate::events::SECOND_US;
use crate::new_file::{NewFile, PIECE_ROWS};

const DAY_US: i64 = 86_400_000_000;

/// The rows of a batch, which become files while they come.
#[derive(Default)]
pub struct EventRows {
    open: BTreeMap<Place, OpenPiece>,
    /// Full pieces that no thread has taken, for want of one.
    untaken: Vec<Piece>,
    thread: Option<EncodingThread>,
    rows: usize,
    /// Of all rows, once there will be no more.
    files: Vec<NewFile>,
}

/// The last rows of one file.
#[derive(Default)]
struct OpenPiece {
    columns: Vec<Column>,
    rows: usize,
}

impl EventRows {
    pub fn add(&mut self, judged: &Judged<&str>) {
        let place = (judged.event.occurred_at_us.div_euclid(DAY_US), judged.event.region);
        let piece = self.open.entry(place).or_default();
        piece.add(judged);
        self.rows += 1;
        if piece.rows == PIECE_ROWS {
            let columns = piece.close();
            self.untaken.push(Piece { of: place, columns });
            let untaken = std::mem::take(&mut self.untaken);
            match self.thread() {
                Ok(thread) => untaken.into_iter().for_each(|piece| thread.encode(piece)),
                Err(_) => self.untaken = untaken,
            }
        }
    }

    fn thread(&mut self) -> Result<&EncodingThread> {
        Ok(match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(EncodingThread::start()?),
        })
    }

    /// The files of all rows. They stay, in case that they are asked for again.
    pub(crate) async fn finish(&mut self) -> Result<Vec<NewFile>> {
        let last = std::mem::take(&mut self.open).into_iter().filter(|(_, piece)| piece.rows > 0);
        self.untaken.extend(last.map(|(of, mut piece)| Piece { of, columns: piece.close() }));
        if !self.untaken.is_empty() {
            self.thread()?;
        }
        if let Some(thread) = self.thread.take() {
            self.files = thread.finish(std::mem::take(&mut self.untaken)).await?;
        }
        let in_files: usize = self.files.iter().map(|file| file.rows).sum();
        if in_files != self.rows {
            let what = format!("a commit of {} events has files of {in_files}", self.rows);
            return Err(LakeError::Damaged { what });
        }
        Ok(self.files.clone())
    }
}

impl OpenPiece {
    fn add(&mut self, judged: &Judged<&str>) {
        if self.columns.is_empty() {
            self.columns = columns();
        }
        self.columns.iter_mut().for_each(|column| column.add(judged));
        self.rows += 1;
    }

    fn close(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        self.columns.iter_mut().map(Column::close).collect()
    }
}

impl<'a> FromIterator<&'a Judged> for EventRows {
    fn from_iter<I: IntoIterator<Item = &'a Judged>>(events: I) -> Self {
        let mut rows = Self::default();
        events.into_iter().for_each(|judged| rows.add(&judged.map(String::as_str)));
        rows
    }
}

/// A column in the making, with what goes into it of an event.
enum Column {
    Id(BinaryBuilder),
    Text(StringBuilder, for<'a> fn(&'a Judged<&'a str>) -> Option<&'a str>),
    /// Microseconds since the Unix epoch.
    Time(TimestampMicrosecondBuilder, fn(&Judged<&str>) -> Option<i64>),
    Number(Int64Builder, fn(&Judged<&str>) -> Option<i64>),
    Middle(Int32Builder, fn(&Judged<&str>) -> i32),
    Small(Int16Builder, fn(&Judged<&str>) -> i16),
    Float(Float32Builder, fn(&Judged<&str>) -> Option<f32>),
    Flag(BooleanBuilder, fn(&Judged<&str>) -> Option<bool>),
    Segments(ListBuilder<StringBuilder>),
}

impl Column {
    fn add(&mut self, judged: &Judged<&str>) {
        match self {
            Column::Id(ids) => ids.append_value(judged.event.id.as_bytes()),
            Column::Text(texts, of) => texts.append_option(of(judged)),
            Column::Time(times, of) => times.append_option(of(judged)),
            Column::Number(numbers, of) => numbers.append_option(of(judged)),
            Column::Middle(numbers, of) => numbers.append_value(of(judged)),
            Column::Small(numbers, of) => numbers.append_value(of(judged)),
            Column::Float(numbers, of) => numbers.append_option(of(judged)),
            Column::Flag(flags, of) => flags.append_option(of(judged)),
            Column::Segments(lists) => {
                let segments = &judged.event.segments;
                segments.iter().for_each(|segment| lists.values().append_value(segment));
                lists.append(!segments.is_empty());
            }
        }
    }

    /// The values, and room for as many again.
    fn close(&mut self) -> ArrayRef {
        match self {
            Column::Id(ids) => {
                let values = ids.finish();
                *ids = BinaryBuilder::with_capacity(PIECE_ROWS, values.value_data().len());
                Arc::new(values)
            }
            Column::Text(texts, _) => {
                let values = texts.finish();
                *texts = StringBuilder::with_capacity(PIECE_ROWS, values.value_data().len());
                Arc::new(values)
            }
            Column::Time(times, _) => Arc::new(times.finish().with_timezone("UTC")),
            Column::Number(numbers, _) => Arc::new(numbers.finish()),
            Column::Middle(numbers, _) => Arc::new(numbers.finish()),
            Column::Small(numbers, _) => Arc::new(numbers.finish()),
            Column::Float(numbers, _) => Arc::new(numbers.finish()),
            Column::Flag(flags, _) => Arc::new(flags.finish()),
            Column::Segments(lists) => Arc::new(lists.finish()),
        }
    }
}

fn text(of: for<'a> fn(&'a Judged<&'a str>) -> Option<&'a str>) -> Column {
    Column::Text(StringBuilder::with_capacity(0, 0), of)
}

fn time(of: fn(&Judged<&str>) -> Option<i64>) -> Column {
    Column::Time(TimestampMicrosecondBuilder::with_capacity(0), of)
}

fn number(of: fn(&Judged<&str>) -> Option<i64>) -> Column {
    Column::Number(Int64Builder::with_capacity(0), of)
}

fn float(of: fn(&Judged<&str>) -> Option<f32>) -> Column {
    Column::Float(Float32Builder::with_capacity(0), of)
}

fn flag(of: fn(&Judged<&str>) -> Option<bool>) -> Column {
    Column::Flag(BooleanBuilder::with_capacity(0), of)
}

fn segments() -> Column {
    let element = Field::new("element", DataType::Utf8, true);
    Column::Segments(ListBuilder::with_capacity(StringBuilder::with_capacity(0, 0), 0).with_field(element))
}

/// In the order of [`EVENTS_FILE`].
fn columns() -> Vec<Column> {
    vec![
        Column::Id(BinaryBuilder::with_capacity(0, 0)),
        text(|row| Some(row.event.kind.as_str())),
        time(|row| Some(row.event.occurred_at_us)),
        Column::Small(Int16Builder::with_capacity(0), |row| row.event.utc_offset_minutes),
        time(|row| Some(row.event.received_at_us)),
        time(|row| {
            (row.judged_at_s != row.event.received_at_us.div_euclid(SECOND_US)).then_some(row.judged_at_s * SECOND_US)
        }),
        Column::Middle(Int32Builder::with_capacity(0), |row| i32::from(row.partition)),
        number(|row| Some(row.offset as i64)),
        text(|row| Some(row.verdict.class().as_str())),
        text(|row| row.verdict.reason().map(|reason| reason.as_str())),
        text(|row| Some(row.event.campaign_id)),
        text(|row| Some(row.event.ad_id)),
        text(|row| row.event.placement_id),
        text(|row| row.event.publisher_id),
        text(|row| row.event.variant),
        number(|row| row.event.user_hash.map(|hash| hash as i64)),
        number(|row| row.event.ip_hash.map(|hash| hash as i64)),
        text(|row| row.event.user_agent),
        text(|row| Some(row.device.device)),
        text(|row| Some(row.device.os)),
        text(|row| Some(row.device.browser)),
        text(|row| row.event.referrer),
        float(|row| row.event.x),
        float(|row| row.event.y),
        text(|row| row.event.country.as_ref().map(Country::as_str)),
        text(|row| row.event.age_group),
        text(|row| row.event.gender),
        segments(),
        number(|row| Some(row.event.cost_micros)),
        number(|row| Some(row.event.revenue_micros)),
        text(|row| row.event.currency),
        text(|row| row.event.click_id),
        text(|row| row.event.props),
        text(|row| row.event.subdivision.as_ref().map(Subdivision::as_str)),
        text(|row| row.event.purpose.map(Purpose::as_str)),
        flag(|row| row.event.privacy.as_deref()?.gdpr),
        text(|row| row.event.privacy.as_deref()?.gdpr_consent.as_deref()),
        text(|row| row.event.privacy.as_deref()?.gpp.as_deref()),
        text(|row| row.event.privacy.as_deref()?.gpp_sid.as_deref()),
        text(|row| row.event.privacy.as_deref()?.us_privacy.as_deref()),
        flag(|row| row.event.privacy.as_deref()?.gpc),
        text(|row| row.event.txn_id),
        text(|row| row.event.status.map(ConversionStatus::as_str)),
    ]
}
