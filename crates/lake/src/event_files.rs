//! The files of a commit of events, encoded while its batch grows: at its end little is left to do. To encode them all at once would
//! keep every core busy for as long as it takes, and clicks would wait (docs/performance.md).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use arrow::array::{ArrayRef, RecordBatch};
use tally_model::Region;

use crate::error::{Doing, LakeError, Result};
use crate::events::{EVENTS_LAYOUT, date};
use crate::new_file::{NewFile, OpenFile, PIECE_ROWS};
use crate::schema::EVENTS_FILE;

/// Day since the Unix epoch and region: each is a file of its own.
pub(crate) type Place = (i64, Region);

/// Pieces that wait for the thread; whoever has one more waits. Some 3 MB each.
const PIECES_WAITING_MAX: usize = 8;
/// Files whose row groups are open at once, which take some 10 MB each: two days in all regions. Where events of many more days come
/// at once, files have more row groups.
const OPEN_ROW_GROUPS_MAX: usize = 2 * Region::ALL.len();

/// Rows of one file, by column.
pub(crate) struct Piece {
    pub of: Place,
    pub columns: Vec<ArrayRef>,
}

/// A thread that encodes pieces in the order in which they come.
pub(crate) struct EncodingThread {
    pieces: SyncSender<Piece>,
    thread: JoinHandle<Result<Vec<NewFile>>>,
}

impl EncodingThread {
    /// With the priority of whoever starts it.
    pub fn start() -> Result<Self> {
        let (pieces, taken) = sync_channel(PIECES_WAITING_MAX);
        let thread = std::thread::Builder::new().name("tally-encode".to_owned());
        let thread = thread.spawn(move || encode_all(&taken)).doing("start a thread that encodes events")?;
        Ok(Self { pieces, thread })
    }

    /// Waits while many are ahead of it.
    pub fn encode(&self, piece: Piece) {
        // Nobody takes it where encoding failed: `finish` tells.
        let _ = self.pieces.send(piece);
    }

    /// The files, once these pieces are in them, too.
    pub async fn finish(self, rest: Vec<Piece>) -> Result<Vec<NewFile>> {
        let finishing = tokio::task::spawn_blocking(move || {
            rest.into_iter().for_each(|piece| self.encode(piece));
            drop(self.pieces);
            self.thread.join()
        });
        let joined = finishing.await.doing("encode events")?;
        joined.map_err(|_| LakeError::Damaged { what: "encoding events ended unexpectedly".to_owned() })?
    }
}

fn encode_all(pieces: &Receiver<Piece>) -> Result<Vec<NewFile>> {
    let mut files: BTreeMap<Place, OpenFile> = BTreeMap::new();
    let mut with_row_group: BTreeSet<Place> = BTreeSet::new();
    for Piece { of, columns } in pieces {
        let rows = RecordBatch::try_new(EVENTS_FILE.clone(), columns)?;
        if with_row_group.len() == OPEN_ROW_GROUPS_MAX && !with_row_group.contains(&of) {
            for of in std::mem::take(&mut with_row_group) {
                files.get_mut(&of).map_or(Ok(()), OpenFile::close_row_group)?;
            }
        }
        with_row_group.insert(of);
        let file = match files.entry(of) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(place) => {
                // Only the last piece of a file is not full.
                let is_last = rows.num_rows() < PIECE_ROWS;
                let rows_max = if is_last { rows.num_rows() } else { usize::MAX };
                place.insert(OpenFile::new(EVENTS_LAYOUT.fresh(), std::slice::from_ref(&rows), rows_max)?)
            }
        };
        file.add(&rows)?;
    }
    let finish = |((day, region), file): (Place, OpenFile)| {
        file.finish(vec![("event_date", date(day)?), ("region", region.as_str().to_owned())])
    };
    files.into_iter().map(finish).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use serde_json::Value;
    use tally_model::{Device, Event, Judged, Kind, Verdict};
    use uuid::Uuid;

    use super::*;
    use crate::EventRows;
    use crate::files::{load, rows_of};

    const DAY_US: i64 = 86_400_000_000;

    fn click(day: i64, offset: u64) -> Judged {
        let at_us = day * DAY_US;
        let event = Event::new(Uuid::from_u128(offset.into()), Kind::Click, at_us, "c", "a");
        let judged_at_s = at_us / 1_000_000;
        Judged { partition: 0, offset, judged_at_s, event, device: Device::NONE, verdict: Verdict::Counted }
    }

    fn offsets_in(file: &NewFile) -> Vec<i64> {
        let metadata = load(&file.bytes).unwrap();
        let rows = rows_of(file.bytes.clone(), metadata, Some(&["offset".to_owned()])).unwrap();
        rows.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[tokio::test]
    async fn rows_of_more_days_than_row_groups_may_be_open_are_each_in_the_file_of_their_day_once_and_in_order() {
        // Whole pieces of each day, and some rows more, so that all days come again when their row groups were closed.
        let days = OPEN_ROW_GROUPS_MAX as i64 + 2;
        let rows = days * (PIECE_ROWS as i64 + 7);
        let mut batch = EventRows::default();
        for offset in 0..rows {
            batch.add(&click(20_000 + offset % days, offset as u64).map(String::as_str));
        }
        let files = batch.finish().await.unwrap();
        assert_eq!(files.len() as i64, days);
        for (day, file) in (0..).zip(&files) {
            let of_day: Vec<i64> = (day..rows).step_by(days as usize).collect();
            assert_eq!(offsets_in(file), of_day);
            assert_eq!(file.partition_values[0].1, date(20_000 + day).unwrap());
            let statistics: Value = serde_json::from_str(&file.statistics).unwrap();
            assert_eq!(statistics["numRecords"], of_day.len());
            assert_eq!(statistics["minValues"]["offset"], of_day[0]);
            assert_eq!(statistics["maxValues"]["offset"], of_day[of_day.len() - 1]);
            assert_eq!(statistics["nullCount"]["judged_at"], of_day.len());
        }
        // A commit that failed asks again.
        let again = batch.finish().await.unwrap();
        assert!(files.iter().zip(&again).all(|(first, second)| first.bytes == second.bytes));
    }

    #[tokio::test]
    async fn a_batch_whose_files_lack_rows_is_not_committed() {
        let mut batch = EventRows::default();
        (0..3).for_each(|offset| batch.add(&click(20_000, offset).map(String::as_str)));
        assert_eq!(batch.finish().await.unwrap()[0].rows, 3);
        // More rows than the files can have.
        (3..5).for_each(|offset| batch.add(&click(20_000, offset).map(String::as_str)));
        let refused = batch.finish().await.unwrap_err();
        assert!(refused.to_string().contains("a commit of 5 events has files of 2"), "{refused}");
    }
}
