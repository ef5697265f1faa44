//! What reads are answered with.

use crate::model::acl::{self, ADMIN, Identity, READ};
use crate::model::{Caller, Node, Outcome, State};
use crate::wire::{Body, Op};

const BAD_ARGUMENTS: i32 = -8;
const MARSHALLING_ERROR: i32 = -5;
const NO_NODE: i32 = -101;

impl State {
    /// Answers a read that does not depend on watches.
    #[must_use]
    pub fn read(&self, op: &Op, caller: &Caller) -> Outcome {
        Outcome::of(self.answer(op, caller))
    }

    fn answer(&self, op: &Op, caller: &Caller) -> Result<Body, i32> {
        let identities = &*caller.identities;
        match op {
            Op::Exists { path, .. } => {
                if path.contains('\0') {
                    return Err(BAD_ARGUMENTS);
                }
                self.readable(path, identities)?;
                Ok(Body::Stat(self.stat(path)))
            }
            Op::GetAcl { path } => {
                let node = self.node(path).ok_or(NO_NODE)?;
                acl::check(&node.acl, READ | ADMIN, identities)?;
                let shown = if acl::check(&node.acl, ADMIN, identities).is_ok() {
                    node.acl.to_vec()
                } else {
                    acl::masked(&node.acl)
                };
                Ok(Body::Acl(shown, self.stat(path)))
            }
            Op::GetAllChildrenNumber { path } => {
                self.readable(path, identities)?;
                let count = self.descendants(path).count();
                Ok(Body::Number(i32::try_from(count).unwrap_or(i32::MAX)))
            }
            Op::GetChildren { path, stat, .. } => {
                self.readable(path, identities)?;
                let stat = stat.then(|| self.stat(path));
                Ok(Body::Children(self.children(path), stat))
            }
            Op::GetData { path, .. } => {
                let node = self.readable(path, identities)?;
                Ok(Body::Data(node.data.clone(), self.stat(path)))
            }
            Op::GetEphemerals { prefix } => {
                let all = matches!(prefix.trim(), "" | "/");
                let paths = self.ephemerals(caller.session).into_iter();
                let paths = paths.filter(|path| all || path.starts_with(prefix.as_str()));
                Ok(Body::Children(
                    paths.map(|path| path.to_string()).collect(),
                    None,
                ))
            }
            Op::MultiRead(ops) => self.multi_read(ops, caller),
            Op::Sync { path } => Ok(Body::Path(path.clone(), None)),
            Op::WhoAmI => Ok(Body::Users(users(identities))),
            Op::AddWatch { .. }
            | Op::Auth { .. }
            | Op::Check { .. }
            | Op::CheckWatches { .. }
            | Op::CloseSession
            | Op::Create { .. }
            | Op::Delete { .. }
            | Op::Multi(_)
            | Op::Ping
            | Op::Raw { .. }
            | Op::RemoveWatches { .. }
            | Op::Reconfig { .. }
            | Op::SetAcl { .. }
            | Op::SetData { .. }
            | Op::SetWatches(_) => Ok(Body::Empty),
        }
    }

    fn readable(&self, path: &str, identities: &[Identity]) -> Result<&Node, i32> {
        let node = self.node(path).ok_or(NO_NODE)?;
        acl::check(&node.acl, READ, identities)?;
        Ok(node)
    }

    fn multi_read(&self, ops: &[Op], caller: &Caller) -> Result<Body, i32> {
        let mut results = Vec::new();
        for op in ops {
            if !matches!(op, Op::GetData { .. } | Op::GetChildren { stat: false, .. }) {
                return Err(MARSHALLING_ERROR);
            }
            let outcome = self.read(op, caller);
            results.push(if outcome.err == 0 {
                (op.code(), 0, outcome.body)
            } else {
                (-1, outcome.err, Body::Number(outcome.err))
            });
        }
        Ok(Body::Multi(results))
    }
}

fn users(identities: &[Identity]) -> Vec<(String, String)> {
    let mut users: Vec<_> = identities
        .iter()
        .map(|(scheme, id)| {
            let user = match scheme.as_str() {
                "digest" => id.split_once(':').map_or(id.as_str(), |(user, _)| user),
                "super" => "",
                _ => id.as_str(),
            };
            (scheme.clone(), user.to_owned())
        })
        .collect();
    users.sort();
    users
}
