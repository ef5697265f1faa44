//! The headers of transactions, which say in what order the server has put them.

use crate::wire::Reader;

/// The type of the txn that opens a session.
pub(crate) const CREATE_SESSION: i32 = -10;
/// The type of the txn that ends a session.
pub(crate) const CLOSE_SESSION: i32 = -11;

const MULTI: i32 = 14;

/// The header of a transaction, and what follows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a> {
    /// Whose it is.
    pub(crate) session: i64,
    /// The number of the client's request.
    pub(crate) xid: i32,
    /// Its id.
    pub(crate) zxid: i64,
    /// When it was proposed.
    pub(crate) time: i64,
    /// Its type.
    pub(crate) kind: i32,
    /// The rest.
    pub(crate) body: &'a [u8],
}

impl<'a> Header<'a> {
    /// Decodes what is given to the log.
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Self, String> {
        let mut input = Reader(payload);
        Ok(Self {
            session: input.long()?,
            xid: input.int()?,
            zxid: input.long()?,
            time: input.long()?,
            kind: input.int()?,
            body: input.0,
        })
    }

    /// The error that it records, and of which operation of a multi.
    pub(crate) fn refusal(&self) -> Result<Option<(usize, i32)>, String> {
        let mut input = Reader(self.body);
        match self.kind {
            -1 => Ok(Some((0, input.int()?))),
            MULTI => {
                for index in 0..input.count()? {
                    let kind = input.int()?;
                    let body = input.buffer()?.unwrap_or_default();
                    if kind == -1 {
                        return Ok(Some((index, Reader(&body).int()?)));
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}
