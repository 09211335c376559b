//! An answer's rows as text, a piece at a time as they are sent: beside the answer, which others may be told too, no more than a piece
//! is in memory, however many rows there are.

use std::io;
use std::sync::Arc;

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use serde_json::Value;
use tally_model::report::Answer;

/// Most answers are shorter, and are sent whole, with their length.
const PIECE_BYTES: usize = 64 << 10;
/// A row of CSV; longer ones take longer.
const RECORD_BYTES_USUAL: usize = 512;

/// How rows are written.
pub(crate) trait Rows: Send + 'static {
    /// What stands in front of all rows.
    fn begin(&mut self, into: &mut Vec<u8>) -> io::Result<()>;
    fn row(&mut self, values: &[Value], into: &mut Vec<u8>) -> io::Result<()>;
    /// What stands behind them.
    fn end(&mut self, into: &mut Vec<u8>) -> io::Result<()>;
}

/// The body of what is made a piece at a time.
pub(crate) fn body<E>(mut pieces: impl Iterator<Item = Result<Bytes, E>> + Send + 'static) -> Result<Body, E>
where
    E: Into<BoxError> + Send + 'static,
{
    let first = pieces.next().transpose()?.unwrap_or_default();
    Ok(match pieces.next() {
        None => first.into(),
        Some(second) => Body::from_stream(stream::iter([Ok(first), second].into_iter().chain(pieces))),
    })
}

/// All rows.
pub(crate) fn pieces(answer: Arc<Answer>, rows: impl Rows) -> impl Iterator<Item = io::Result<Bytes>> + Send {
    Pieces { answer, rows, next: Some(0) }
}

struct Pieces<R> {
    answer: Arc<Answer>,
    rows: R,
    /// The row that is written next; none once all is written.
    next: Option<usize>,
}

impl<R: Rows> Pieces<R> {
    fn piece(&mut self, from: usize) -> io::Result<Bytes> {
        let mut piece = Vec::new();
        if from == 0 {
            self.rows.begin(&mut piece)?;
        }
        let mut at = from;
        while let Some(values) = self.answer.rows.get(at) {
            if piece.len() >= PIECE_BYTES {
                self.next = Some(at);
                return Ok(piece.into());
            }
            self.rows.row(values, &mut piece)?;
            at += 1;
        }
        self.rows.end(&mut piece)?;
        Ok(piece.into())
    }
}

impl<R: Rows> Iterator for Pieces<R> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.next.take()?;
        Some(self.piece(from))
    }
}

/// `{"rows":[{..},..],"meta":{..}}`
pub(crate) struct Json {
    /// As they stand in front of each value: `"clicks":`.
    names: Vec<String>,
    meta: Value,
    is_first: bool,
}

impl Json {
    pub fn new(columns: &[String], meta: Value) -> Self {
        let names = columns.iter().map(|name| format!("{}:", Value::from(name.as_str()))).collect();
        Self { names, meta, is_first: true }
    }
}

impl Rows for Json {
    fn begin(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        into.extend_from_slice(br#"{"rows":["#);
        Ok(())
    }

    fn row(&mut self, values: &[Value], into: &mut Vec<u8>) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first) {
            into.push(b',');
        }
        let mut before = b'{';
        for (name, value) in self.names.iter().zip(values) {
            into.push(std::mem::replace(&mut before, b','));
            into.extend_from_slice(name.as_bytes());
            serde_json::to_writer(&mut *into, value)?;
        }
        into.push(b'}');
        Ok(())
    }

    fn end(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        into.extend_from_slice(br#"],"meta":"#);
        serde_json::to_writer(&mut *into, &self.meta)?;
        into.push(b'}');
        Ok(())
    }
}

/// RFC 4180, null as nothing.
pub(crate) struct Csv {
    pub columns: Vec<String>,
}

impl Csv {
    fn record(fields: impl Iterator<Item = impl AsRef<[u8]>>, into: &mut Vec<u8>) -> io::Result<()> {
        let mut writer = csv::WriterBuilder::new().buffer_capacity(RECORD_BYTES_USUAL).from_writer(into);
        writer.write_record(fields)?;
        writer.flush()
    }
}

impl Rows for Csv {
    fn begin(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        Self::record(self.columns.iter(), into)
    }

    fn row(&mut self, values: &[Value], into: &mut Vec<u8>) -> io::Result<()> {
        let field = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Self::record(values.iter().map(field), into)
    }

    fn end(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{HttpBody, to_bytes};
    use serde_json::json;
    use tally_model::report::AnswerMeta;

    fn answer(rows: usize) -> Arc<Answer> {
        let columns = vec!["campaign_id".to_owned(), "clicks".to_owned(), "ctr".to_owned()];
        let row = |n: usize| match n % 3 {
            0 => vec![json!(format!("a \"quoted\", {n}")), json!(n), json!(0.5)],
            1 => vec![json!(""), json!(-1), Value::Null],
            _ => vec![Value::Null, json!(u64::MAX), json!(1.0)],
        };
        let meta =
            AnswerMeta { source: "campaign_day".to_owned(), table_version: 7, users_error: None, warnings: Vec::new() };
        Arc::new(Answer { columns, rows: (0..rows).map(row).collect(), meta })
    }

    async fn told(answer: &Arc<Answer>, rows: impl Rows) -> (Option<u64>, String) {
        let body = body(pieces(answer.clone(), rows)).unwrap();
        let length = body.size_hint().exact();
        (length, String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn json_in_pieces_is_the_same_text_as_whole() {
        for rows in [0, 1, 2, 3, 20_000] {
            let answer = answer(rows);
            let object = |values: &Vec<Value>| {
                Value::Object(answer.columns.iter().cloned().zip(values.iter().cloned()).collect())
            };
            let rows_whole: Vec<Value> = answer.rows.iter().map(object).collect();
            let whole = json!({"rows": rows_whole, "meta": {"closed": true}}).to_string();
            let (length, text) = told(&answer, Json::new(&answer.columns, json!({"closed": true}))).await;
            assert!(text == whole, "{rows} rows");
            assert_eq!(length.is_some(), rows < 20_000, "only what is short is sent whole");
        }
    }

    #[tokio::test]
    async fn csv_in_pieces_is_read_back_row_by_row() {
        let answer = answer(20_000);
        let (_, text) = told(&answer, Csv { columns: answer.columns.clone() }).await;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), &answer.columns[..]);
        let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
        assert_eq!(rows.len(), 20_000);
        assert_eq!(rows[19_998], vec!["a \"quoted\", 19998", "19998", "0.5"]);
        assert_eq!(rows[19_999], vec!["", "-1", ""]);
    }
}
