//! What a replay writes: fills as CSV, the book as JSON.
//!
//! Invariant: a file appears under its name only when the whole replay has gone well; until then it is a
//! temporary one beside it.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use engine::Side;

use super::grid::Grid;
use super::venue::{Fill, Venue};

/// A file that is not there yet.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    file: BufWriter<tempfile::NamedTempFile>,
}

impl Draft {
    fn new(path: &Path) -> anyhow::Result<Self> {
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".replay-")
            .permissions(default_permissions())
            .tempfile_in(directory.unwrap_or(Path::new(".")))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 18, file) })
    }

    fn publish(self) -> anyhow::Result<()> {
        let about = || format!("cannot write {}", self.path.display());
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error);
        file.with_context(about)?.persist(&self.path).with_context(about).map(drop)
    }
}

/// The permissions of any new file; the process's own mask applies.
fn default_permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// The fills, in the order in which they happen.
#[derive(Debug)]
pub(crate) struct FillsFile {
    draft: Option<Draft>,
    written: u64,
}

impl FillsFile {
    /// Begins the file; without a path the fills are counted only.
    ///
    /// # Errors
    ///
    /// No file can be made there.
    pub(crate) fn new(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut draft = path.map(Draft::new).transpose()?;
        if let Some(draft) = &mut draft {
            writeln!(draft.file, "seq,maker_order_id,price,quantity")?;
        }
        Ok(Self { draft, written: 0 })
    }

    /// Adds the fills of the taker whose command is `seq`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn add(&mut self, seq: u64, fills: &[Fill], grid: &Grid) -> anyhow::Result<()> {
        self.written += u64::try_from(fills.len()).unwrap_or(0);
        let Some(draft) = &mut self.draft else { return Ok(()) };
        for fill in fills {
            let (price, quantity) =
                (grid.price_text(fill.price), grid.quantity_text(fill.quantity));
            writeln!(draft.file, "{seq},{},{price},{quantity}", fill.maker)
                .with_context(|| format!("cannot write {}", draft.path.display()))?;
        }
        Ok(())
    }

    /// Returns the fills so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn publish(self) -> anyhow::Result<()> {
        self.draft.map_or(Ok(()), Draft::publish)
    }
}

/// One side of a book: price and quantity as texts, best first.
pub(crate) type Levels = Vec<[String; 2]>;

/// A book as texts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct BookText {
    /// Highest first.
    pub bids: Levels,
    /// Lowest first.
    pub asks: Levels,
}

impl BookText {
    /// Takes the book of a venue, at most `depth` levels a side.
    pub(crate) fn of(venue: &Venue, grid: &Grid, depth: Option<usize>) -> Self {
        let side = |side: Side| -> Levels {
            let levels = venue.depth(side).take(depth.unwrap_or(usize::MAX));
            levels
                .map(|(price, quantity)| [grid.price_text(price), grid.quantity_text(quantity)])
                .collect()
        };
        Self { bids: side(Side::Buy), asks: side(Side::Sell) }
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut draft = Draft::new(path)?;
        serde_json::to_writer(&mut draft.file, self)
            .with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(draft.file)?;
        draft.publish()
    }
}
