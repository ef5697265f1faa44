//! Which operations a load is made of, and in what shares.

use core::fmt;
use core::str::FromStr;

/// An operation that the generator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Creates a new znode.
    Create,
    /// Asks for a znode's stat.
    Exists,
    /// Reads a znode's data.
    Get,
    /// Lists a directory of ten.
    Ls,
    /// Overwrites a znode's data.
    Set,
}

impl Operation {
    /// Every operation, in the order of their discriminants.
    pub const ALL: [Self; 5] = [Self::Create, Self::Exists, Self::Get, Self::Ls, Self::Set];

    /// The name in `--mix` and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Exists => "exists",
            Self::Get => "get",
            Self::Ls => "ls",
            Self::Set => "set",
        }
    }
}

/// Operations with their shares of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    shares: Vec<(Operation, u64)>,
    sum: u64,
}

impl Mix {
    /// The share of an operation that is named without one.
    const SHARE_DEFAULT: u32 = 100;

    /// Turns a random number into an operation.
    #[must_use]
    pub fn pick(&self, random: u64) -> Operation {
        let mut at = random % self.sum;
        for &(operation, share) in &self.shares {
            if at < share {
                return operation;
            }
            at -= share;
        }
        unreachable!("at started below the sum of the shares")
    }

    /// The operations with a share, each once, as they were named.
    pub fn operations(&self) -> impl Iterator<Item = Operation> {
        self.shares.iter().map(|&(operation, _)| operation)
    }
}

impl FromStr for Mix {
    type Err = UnreadableMix;

    fn from_str(text: &str) -> Result<Self, UnreadableMix> {
        let mut mix = Self {
            shares: Vec::new(),
            sum: 0,
        };
        for part in text.split(',') {
            let (name, share) = match part.split_once('=') {
                Some((name, share)) => (name, share.parse::<u32>().ok()),
                None => (part, Some(Self::SHARE_DEFAULT)),
            };
            let operation = Operation::ALL
                .into_iter()
                .find(|operation| operation.name() == name);
            let (Some(operation), Some(share @ 1..)) = (operation, share) else {
                return Err(UnreadableMix(part.to_owned()));
            };
            if mix.operations().any(|earlier| earlier == operation) {
                return Err(UnreadableMix(part.to_owned()));
            }
            mix.shares.push((operation, share.into()));
            mix.sum += u64::from(share);
        }
        Ok(mix)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (operation, share)) in self.shares.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}={share}", operation.name())?;
        }
        Ok(())
    }
}

/// The part of a mix that is not an operation, named once, with a share of 1 or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableMix(String);

impl fmt::Display for UnreadableMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected get, set, exists, create or ls, each once, with =SHARE of 1 or more, "
        )?;
        write!(f, "found {:?}", self.0)
    }
}

impl core::error::Error for UnreadableMix {}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn mix_deals_operations_by_their_shares() {
        let mix: Mix = "get=3,set=1".parse().unwrap();
        let dealt: Vec<_> = (0..5).map(|random| mix.pick(random).name()).collect();
        assert_eq!(dealt, ["get", "get", "get", "set", "get"]);
    }

    #[test]
    fn operation_without_a_share_counts_a_hundred() {
        let mix: Mix = "ls,create=50".parse().unwrap();
        assert_eq!(mix.to_string(), "ls=100,create=50");
        assert_eq!(mix.pick(99), Operation::Ls);
        assert_eq!(mix.pick(100), Operation::Create);
        assert_eq!(mix.pick(150), Operation::Ls);
    }

    #[test]
    fn mix_names_the_part_it_cannot_read() {
        for (text, part) in [
            ("", ""),
            ("get=80,put=20", "put=20"),
            ("get=", "get="),
            ("get=0", "get=0"),
            ("get=-1", "get=-1"),
            ("get=1,set=1,get=2", "get=2"),
            ("get=4294967296", "get=4294967296"),
        ] {
            assert_eq!(
                text.parse::<Mix>(),
                Err(UnreadableMix(part.to_owned())),
                "{text:?}"
            );
        }
    }
}
