//! Distinct users from stored sketches, as an aggregate function.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, AggregateUDF, Volatility, create_udaf};
use tally_model::Users;

/// `users(sketch)`: the estimate over the union of all sketches, as a whole number.
pub(crate) fn users_function() -> AggregateUDF {
    create_udaf(
        "users",
        vec![DataType::Binary],
        Arc::new(DataType::Int64),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::<Union>::default())),
        Arc::new(vec![DataType::Binary]),
    )
}

#[derive(Debug, Default)]
struct Union(Option<Users>);

impl Union {
    fn merge_sketches(&mut self, sketches: &[ArrayRef]) -> Result<()> {
        let sketches = sketches[0].as_binary_opt::<i32>();
        let sketches = sketches.ok_or_else(|| DataFusionError::Internal("sketches are not binary".to_owned()))?;
        for sketch in sketches.iter().flatten() {
            let merged = self.0.get_or_insert_default().merge_bytes(sketch);
            merged.map_err(|error| DataFusionError::Execution(error.to_string()))?;
        }
        Ok(())
    }
}

impl Accumulator for Union {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.merge_sketches(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.merge_sketches(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(self.0.as_ref().map(Users::to_bytes))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.0.as_ref().map_or(0, |users| users.estimate().round() as i64))))
    }

    fn size(&self) -> usize {
        // A full sketch; most are far smaller.
        size_of::<Self>() + self.0.as_ref().map_or(0, |_| 4_096)
    }
}
