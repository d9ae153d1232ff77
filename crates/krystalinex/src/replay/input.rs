//! The file that is replayed: opened twice, read as a stream of lines, its format guessed from its first line.
//!
//! Invariant: a fault in the file is told as [`BadLine`], with the file, the line and the reason.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

/// The longest line that is read, in bytes: a line without an end must not fill the memory.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The formats that can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Coinbase `full` channel: each line a local time and a JSON message.
    CoinbaseFull,
    /// The project's own CSV: `seq,command,order_id,side,price,quantity`.
    OrderFlow,
}

/// A line that cannot be replayed. Nothing of the file counts then.
#[derive(Debug)]
pub(crate) struct BadLine {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl std::error::Error for BadLine {}

/// What can go wrong with a line: the line itself, or what it is fed to.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The line cannot be carried out.
    Line(String),
    /// A file or the exchange fails.
    Other(anyhow::Error),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Line(reason)
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl Fault {
    /// Names the line.
    pub(crate) fn at(self, input: &Input, line: u64) -> anyhow::Error {
        match self {
            Self::Line(reason) => input.bad(line, reason).into(),
            Self::Other(error) => error.context(format!("{}:{line}", input.name())),
        }
    }
}

/// The file, which can be read from its beginning more than once.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    file: File,
    bytes: u64,
}

impl Input {
    /// Opens a file; `-` is the standard input, which is spooled so that it can be read twice.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or the standard input cannot be spooled.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let (name, file) = if path.as_os_str() == "-" {
            let mut spool = tempfile::tempfile().context("cannot make a temporary file")?;
            io::copy(&mut io::stdin().lock(), &mut spool).context("cannot read standard input")?;
            ("<stdin>".to_owned(), spool)
        } else {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            (name, file)
        };
        let bytes = file.metadata().with_context(|| format!("cannot read {name}"))?.len();
        Ok(Self { name, file, bytes })
    }

    /// Returns the file's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Says what is wrong with a line.
    pub(crate) fn bad(&self, line: u64, reason: impl Into<String>) -> BadLine {
        BadLine { file: self.name.clone(), line, reason: reason.into() }
    }

    /// Starts reading from the beginning, with a progress bar that says `what`.
    ///
    /// # Errors
    ///
    /// The file cannot be read from its beginning (a pipe cannot).
    pub(crate) fn lines(&self, what: &'static str) -> anyhow::Result<Lines> {
        let mut file = self.file.try_clone().context("cannot reopen the file")?;
        file.seek(SeekFrom::Start(0)).with_context(|| {
            format!("{} cannot be read twice; give a pipe as standard input, with -", self.name)
        })?;
        Ok(Lines {
            file: self.name.clone(),
            reader: BufReader::with_capacity(1 << 18, file),
            line: 0,
            text: Vec::with_capacity(1024),
            read: 0,
            bar: bar(self.bytes, what),
        })
    }

    /// Guesses the format from the first line.
    ///
    /// # Errors
    ///
    /// [`BadLine`] when it is neither.
    pub(crate) fn guess(&self) -> anyhow::Result<Format> {
        let mut lines = self.lines("")?;
        lines.bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        let first = lines.next()?.map_or(&b""[..], |(_, text)| text);
        let text = String::from_utf8_lossy(first);
        if text.contains('{') {
            Ok(Format::CoinbaseFull)
        } else if text.trim_start_matches('\u{feff}').to_ascii_lowercase().starts_with("seq,") {
            Ok(Format::OrderFlow)
        } else {
            let reason = "neither a Coinbase message nor the header of an order-flow file; \
                          give --format";
            Err(self.bad(1, reason).into())
        }
    }
}

fn bar(bytes: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg:9} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
    );
    let bar = ProgressBar::new(bytes).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The lines of the file, one after the other.
#[derive(Debug)]
pub(crate) struct Lines {
    file: String,
    reader: BufReader<File>,
    line: u64,
    text: Vec<u8>,
    read: u64,
    bar: ProgressBar,
}

impl Lines {
    /// Reads the next line, without its end, and its number from 1; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line is too long ([`BadLine`]).
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<(u64, &[u8])>> {
        self.text.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = self
            .reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut self.text)
            .with_context(|| format!("cannot read {}", self.file))?;
        if read == 0 {
            self.bar.finish_and_clear();
            return Ok(None);
        }
        self.line += 1;
        self.read += u64::try_from(read).unwrap_or(0);
        if self.line.is_multiple_of(4096) {
            self.bar.set_position(self.read);
        }
        if self.text.last() == Some(&b'\n') {
            self.text.pop();
        } else if read == LINE_BYTES_MAX {
            let reason = "the line is longer than 64 KiB".to_owned();
            return Err(BadLine { file: self.file.clone(), line: self.line, reason }.into());
        }
        if self.text.last() == Some(&b'\r') {
            self.text.pop();
        }
        Ok(Some((self.line, &self.text)))
    }
}
