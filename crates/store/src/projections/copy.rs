//! Rows in PostgreSQL's binary COPY format: the fastest way in for rows that are only ever added.

use bytes::{BufMut, Bytes, BytesMut};
use futures::SinkExt;
use tokio_postgres::{Statement, Transaction};
use units::{CommandId, Time};

use crate::{Numeric, StoreError, Timestamp};

/// Bytes that are sent at once.
const PIECE: usize = 256 * 1024;

/// A table's rows on their way.
pub(super) struct Copy {
    buffer: BytesMut,
    pieces: Vec<Bytes>,
    rows: u64,
}

impl Copy {
    pub(super) fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(PIECE);
        buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
        // No flags, no further header.
        buffer.put_i64(0);
        Self { buffer, pieces: Vec::new(), rows: 0 }
    }

    /// Begins a row of so many columns.
    pub(super) fn row(&mut self, columns: i16) {
        if self.buffer.len() >= PIECE {
            self.pieces.push(self.buffer.split().freeze());
            self.buffer.reserve(PIECE);
        }
        self.buffer.put_i16(columns);
        self.rows += 1;
    }

    pub(super) fn int(&mut self, number: i32) {
        self.buffer.put_i32(4);
        self.buffer.put_i32(number);
    }

    pub(super) fn bigint(&mut self, number: i64) {
        self.buffer.put_i32(8);
        self.buffer.put_i64(number);
    }

    pub(super) fn null(&mut self) {
        self.buffer.put_i32(-1);
    }

    /// Puts a value, or that there is none.
    pub(super) fn or_null<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => put(self, value),
            None => self.null(),
        }
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.buffer.put_i32(1);
        self.buffer.put_u8(value.into());
    }

    pub(super) fn uuid(&mut self, id: CommandId) {
        self.buffer.put_i32(16);
        self.buffer.put_u128(id.get());
    }

    pub(super) fn time(&mut self, time: Time) {
        self.bigint(Timestamp(time).micros());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.buffer.put_i32(i32::try_from(text.len()).expect("the words are short"));
        self.buffer.put_slice(text.as_bytes());
    }

    pub(super) fn numeric(&mut self, number: impl Into<Numeric>) {
        let at = self.buffer.len();
        self.buffer.put_i32(0);
        number.into().put(&mut self.buffer);
        let length = i32::try_from(self.buffer.len() - at - 4).expect("a numeric is short");
        self.buffer[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Sends the rows, if there are any.
    pub(super) async fn send(
        mut self,
        transaction: &Transaction<'_>,
        statement: &Statement,
    ) -> Result<(), StoreError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.buffer.put_i16(-1);
        self.pieces.push(self.buffer.freeze());
        let sink = transaction.copy_in::<_, Bytes>(statement).await?;
        let mut sink = std::pin::pin!(sink);
        for piece in self.pieces {
            sink.feed(piece).await?;
        }
        let written = sink.as_mut().finish().await?;
        if written != self.rows {
            return Err(StoreError::Corrupt(format!(
                "{written} of {} rows were copied",
                self.rows
            )));
        }
        Ok(())
    }
}
