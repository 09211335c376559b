//! Which files a table has of each day, as one number for each: an answer about some days stays what it is until one of the
//! numbers changes. The same files have the same number in every process, before a restart and after.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake_core::kernel::{Add, Remove};
use sha2::{Digest, Sha256};

/// By `event_date`, which orders as text (`2024-05-01`). Files come and go in any order, so numbers are added up by XOR.
#[derive(Debug, Clone, Default)]
pub(crate) struct DayFiles(Arc<BTreeMap<String, u128>>);

impl DayFiles {
    pub fn of<'a>(files: impl Iterator<Item = &'a Add>) -> Self {
        let mut all = Self::default();
        all.note(files, &[]);
        all
    }

    /// Takes note of a commit.
    pub fn note<'a>(&mut self, added: impl Iterator<Item = &'a Add>, removed: &[Remove]) {
        let added = added.map(|file| (Some(&file.partition_values), &file.path));
        let removed = removed.iter().map(|file| (file.partition_values.as_ref(), &file.path));
        let day_of = |values: Option<&std::collections::HashMap<_, _>>| values?.get("event_date").cloned().flatten();
        for (values, path) in added.chain(removed) {
            let day: Option<String> = day_of(values);
            if let Some(day) = day {
                *Arc::make_mut(&mut self.0).entry(day).or_default() ^= number(path);
            }
        }
    }

    /// All files of the days from the first to the last, both included.
    pub fn of_days(&self, first: &str, last: &str) -> u128 {
        let days = self.0.iter().filter(|(day, _)| (first..=last).contains(&day.as_str()));
        days.fold(0, |all, (_, number)| all ^ number)
    }
}

fn number(path: &str) -> u128 {
    let digest = Sha256::digest(path);
    digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(day: &str, name: &str) -> Add {
        let partition_values = [("event_date".to_owned(), Some(day.to_owned()))].into();
        Add { path: format!("{day}/{name}"), partition_values, ..Add::default() }
    }

    fn gone(file: &Add) -> Remove {
        let partition_values = Some(file.partition_values.clone());
        Remove { path: file.path.clone(), partition_values, ..Remove::default() }
    }

    #[test]
    fn a_day_has_another_number_with_its_own_files_only() {
        let [first, second] = [file("2024-05-01", "a"), file("2024-05-02", "b")];
        let mut files = DayFiles::of([&first].into_iter());
        let of_first = files.of_days("2024-05-01", "2024-05-01");
        files.note([&second].into_iter(), &[]);
        assert_eq!(files.of_days("2024-05-01", "2024-05-01"), of_first);
        assert_ne!(files.of_days("2024-05-01", "2024-05-02"), of_first);
        assert_eq!(files.of_days("2024-05-03", "2024-05-09"), 0);

        let both = files.of_days("2024-05-01", "2024-05-02");
        assert_eq!(DayFiles::of([&second, &first].into_iter()).of_days("2024-05-01", "2024-05-02"), both);
        let merged = file("2024-05-01", "c");
        files.note([&merged].into_iter(), &[gone(&first)]);
        let again = DayFiles::of([&merged, &second].into_iter());
        assert_eq!(files.of_days("2024-05-01", "2024-05-09"), again.of_days("2024-05-01", "2024-05-09"));
    }
}
