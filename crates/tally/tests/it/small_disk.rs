//! A small file system of its own, that can be filled, and that can be made to hang. Needs the right to mount.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// An ext4 in a file, mounted. Gone when dropped, whatever state a test left it in.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// None where mounting is not permitted; says so.
    pub fn of_mib(mib: u64) -> Option<Self> {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        let image = disk.folder.path().join("image");
        std::fs::create_dir(disk.path()).unwrap();
        File::create(&image).and_then(|image| image.set_len(mib << 20)).unwrap();
        // No blocks reserved for root, or it would find room where others do not.
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", "nodiscard"]).arg(&image));
        let mounted = made.and_then(|()| run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path())));
        match mounted {
            Ok(()) => Some(disk),
            Err(why) => {
                eprintln!("SKIPPED: cannot mount a small file system, which takes root and a loop device: {why}");
                None
            }
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all the space but so much.
    pub fn fill_but(&self, free_bytes: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        // Piece by piece down to single blocks, or the last ones would stay free.
        for piece_bytes in [1 << 20, 64 << 10, 4 << 10] {
            while ballast.write_all(&vec![1; piece_bytes]).and_then(|()| ballast.sync_data()).is_ok() {}
        }
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(free_bytes)).unwrap();
        ballast.sync_all().unwrap();
    }

    pub fn fill(&self) {
        self.fill_but(0);
    }

    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Until what it gives is dropped, every write and sync waits; reading goes on.
    pub fn freeze(&self) -> Frozen {
        run(Command::new("fsfreeze").arg("--freeze").arg(self.path())).unwrap();
        Frozen(self.path())
    }
}

pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        // A server that hangs on it cannot even be killed.
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is still being killed does not keep it mounted.
        let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

pub fn run(command: &mut Command) -> Result<(), String> {
    let said = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match said.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&said.stderr).trim())),
    }
}
