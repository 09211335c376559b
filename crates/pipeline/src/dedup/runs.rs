//! The runs of one folder, oldest first: which of them are of use, which one knows an id, and when they go.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tally_model::Positions;
use tracing::warn;

#[cfg(test)]
use super::filter::Spoilt;
use super::run::{Rules, Run, RunWriter};

#[derive(Debug)]
pub(super) struct Runs {
    pub folder: PathBuf,
    runs: Vec<Run>,
    /// Blocks read since the start.
    pub reads: u64,
    #[cfg(test)]
    pub spoilt: Option<Spoilt>,
}

/// A run that cannot be read, and is not used any more.
#[derive(Debug)]
pub(super) struct Lost {
    pub path: PathBuf,
    pub cause: io::Error,
    /// Whether it could be deleted: else a start would find it again.
    pub is_gone: bool,
}

impl Runs {
    /// Opens what an earlier life left, as far as it is whole, made by these rules, and true of a log committed up to here. The
    /// rest is deleted: it can be made again from `events`.
    pub fn open(folder: &Path, rules: Rules, committed: &Positions) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        let mut runs: Vec<Run> = Vec::new();
        // Newest first: the newest says what the others must agree with.
        for path in paths.iter().rev() {
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension == Some(RunWriter::TEMPORARY) {
                fs::remove_file(path)?;
            }
            if extension != Some(RunWriter::FINISHED) {
                continue;
            }
            match Run::open(path).map_err(|error| error.to_string()).and_then(|run| check(run, rules, committed, &runs))
            {
                Ok(run) => runs.push(run),
                Err(cause) => {
                    warn!(path = %path.display(), %cause, "ids on disk are of no use and deleted; `events` has them");
                    fs::remove_file(path)?;
                }
            }
        }
        File::open(folder)?.sync_all()?;
        runs.reverse();
        Ok(Self {
            folder: folder.to_owned(),
            runs,
            reads: 0,
            #[cfg(test)]
            spoilt: None,
        })
    }

    pub fn seed(&self) -> Option<u128> {
        self.runs.last().map(|run| run.head.seed)
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Of memory.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(Run::bytes).sum()
    }

    /// Up to where ids are on disk.
    pub fn upto_s(&self) -> i64 {
        self.runs.last().map_or(0, |run| run.head.upto_s)
    }

    /// From where on ids that may still be remembered are not on disk.
    pub fn missing_from_s(&self, longest_s: i64) -> i64 {
        let needed_from_s = self.upto_s().saturating_sub(longest_s).max(0);
        let mut held_from_s = self.upto_s();
        let mut missing_from_s = held_from_s;
        for run in self.runs.iter().rev() {
            if run.head.upto_s < held_from_s && held_from_s > needed_from_s {
                missing_from_s = run.head.upto_s.max(needed_from_s);
            }
            held_from_s = run.head.from_s;
        }
        if held_from_s > needed_from_s { needed_from_s } else { missing_from_s }
    }

    /// The end of the run that has the ids from here on.
    pub fn upto_from(&self, from_s: i64) -> Option<i64> {
        let run = self.runs.iter().find(|run| run.head.from_s <= from_s && from_s < run.head.upto_s)?;
        Some(run.head.upto_s)
    }

    /// How many ids are on disk and were first seen before then.
    pub fn ids_before(&self, before_s: i64) -> u64 {
        self.runs.iter().filter(|run| run.head.upto_s <= before_s).map(|run| run.head.ids).sum()
    }

    pub fn add(&mut self, run: Run) {
        self.runs.push(run);
        #[cfg(test)]
        self.spoil();
    }

    /// Keeps ready to be asked what has ids first seen before then, and nothing else.
    pub fn load_before(&mut self, before_s: i64) -> Result<(), Lost> {
        for at in 0..self.runs.len() {
            let run = &mut self.runs[at];
            if run.head.from_s >= before_s {
                run.unload();
            } else if let Err(cause) = run.load() {
                return Err(self.lose(at, cause));
            }
        }
        Ok(())
    }

    /// When this id was last seen for the first time, of what is on disk: asks the runs that have ids first seen from `from_s`
    /// until `before_s`, newest first.
    #[inline]
    pub fn find(&mut self, key: u128, from_s: i64, before_s: i64) -> Result<Option<i64>, Lost> {
        if before_s <= from_s {
            return Ok(None);
        }
        for at in (0..self.runs.len()).rev() {
            let run = &self.runs[at];
            if run.head.from_s >= before_s || run.head.upto_s <= from_s || !run.may_hold(key) {
                continue;
            }
            self.reads += 1;
            match run.find(key) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(cause) => return Err(self.lose(at, cause)),
            }
        }
        Ok(None)
    }

    /// Deletes the runs whose ids have all expired. They are measured by the newest run, not by what was judged since: after a
    /// restart it is again the newest run that says from where on ids must be there.
    pub fn delete_expired(&mut self, longest_s: i64) {
        let needed_from_s = self.upto_s().saturating_sub(longest_s);
        self.runs.retain(|run| {
            let is_needed = run.head.upto_s > needed_from_s;
            if !is_needed && let Err(error) = fs::remove_file(run.path()) {
                warn!(path = %run.path().display(), %error, "expired ids cannot be deleted; the next start tries again");
            }
            is_needed
        });
    }

    fn lose(&mut self, at: usize, cause: io::Error) -> Lost {
        let path = self.runs.remove(at).path().to_owned();
        let is_gone = !path.exists() || fs::remove_file(&path).is_ok();
        Lost { path, cause, is_gone }
    }

    #[cfg(test)]
    pub fn spoil(&mut self) {
        self.runs.iter_mut().for_each(|run| run.spoilt = self.spoilt);
    }
}

/// `newer` are the runs after it that are of use.
fn check(run: Run, rules: Rules, committed: &Positions, newer: &[Run]) -> Result<Run, String> {
    let head = &run.head;
    if head.rules != rules {
        return Err(format!("they were kept by other rules ({:?}, now {rules:?})", head.rules));
    }
    if !committed.covers(&head.judged) {
        return Err("they are of events that the lake has not committed".to_owned());
    }
    if newer.last().is_some_and(|next| next.head.seed != head.seed || next.head.from_s < head.upto_s) {
        return Err("they do not belong to the newer ones".to_owned());
    }
    Ok(run)
}
