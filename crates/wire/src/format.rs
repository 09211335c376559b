//! `format(text, ..)` of Postgres, with which tools put names together: `%s`, `%I` (a name, quoted where it must be), `%L` (a
//! literal) and `%%`. Positions and widths are not taken: nobody was seen to send them.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

pub(crate) fn register(context: &SessionContext) {
    context
        .register_udf(ScalarUDF::new_from_impl(Format { signature: Signature::variadic_any(Volatility::Immutable) }));
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Format {
    signature: Signature,
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &'static str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        if arguments.is_empty() { plan_err!("format takes a text first") } else { Ok(DataType::Utf8) }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let arrays = arguments.args.into_iter().map(|argument| Ok(cast(&argument.into_array(rows)?, &DataType::Utf8)?));
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
        let texts: Vec<&StringArray> = arrays.iter().map(|array| array.as_string::<i32>()).collect();
        let Some((formats, values)) = texts.split_first() else { return exec_err!("format takes a text first") };
        let of_row = |row: usize| {
            let values: Vec<Option<&str>> =
                values.iter().map(|array| array.is_valid(row).then(|| array.value(row))).collect();
            formats.is_valid(row).then(|| formatted(formats.value(row), &values)).transpose()
        };
        let made: StringArray = (0..rows).map(of_row).collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(made)))
    }
}

fn formatted(format: &str, values: &[Option<&str>]) -> Result<String> {
    let mut made = String::with_capacity(format.len());
    let mut values = values.iter();
    let mut parts = format.chars();
    while let Some(part) = parts.next() {
        if part != '%' {
            made.push(part);
            continue;
        }
        let kind = parts.next();
        if kind == Some('%') {
            made.push('%');
            continue;
        }
        let Some(value) = values.next() else { return exec_err!("format has too few arguments for `{format}`") };
        match (kind, value) {
            (Some('s'), value) => made.push_str(value.unwrap_or_default()),
            (Some('I'), Some(name)) => push_name(&mut made, name),
            (Some('I'), None) => return exec_err!("null is no name for %I of format"),
            (Some('L'), Some(value)) => {
                made.push('\'');
                made.push_str(&value.replace('\'', "''"));
                made.push('\'');
            }
            (Some('L'), None) => made.push_str("NULL"),
            _ => return exec_err!("format knows %s, %I, %L and %%, and not what follows % in `{format}`"),
        }
    }
    Ok(made)
}

fn push_name(made: &mut String, name: &str) {
    let is_plain = |part: char| part.is_ascii_lowercase() || part.is_ascii_digit() || part == '_';
    if name.chars().all(is_plain) && !name.starts_with(|first: char| first.is_ascii_digit()) && !name.is_empty() {
        made.push_str(name);
    } else {
        made.push('"');
        made.push_str(&name.replace('"', "\"\""));
        made.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be_and_literals_always() {
        for (format, values, expected) in [
            ("%s", vec![Some("a")], "a"),
            ("100 %% of %s.", vec![None], "100 % of ."),
            ("%I.%I", vec![Some("public"), Some("Campaign \"day\"")], "public.\"Campaign \"\"day\"\"\""),
            ("%L, %L", vec![Some("it's"), None], "'it''s', NULL"),
            ("%s", vec![Some("a"), Some("left over")], "a"),
        ] {
            assert_eq!(formatted(format, &values).unwrap(), expected);
        }
        for (format, values) in [("%s", vec![]), ("%I", vec![None]), ("%1$s", vec![Some("a")]), ("%", vec![Some("a")])]
        {
            assert!(formatted(format, &values).is_err(), "{format}");
        }
    }
}
