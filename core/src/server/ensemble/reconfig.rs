//! `reconfig`: a change of the membership, as a transaction.
//!
//! Source of the checks and their order: `PrepRequestProcessor`, case `reconfig`.

use alloc::string::ToString;

use crate::error::ErrorCode;
use crate::ids::{LinkId, SessionId, Xid};
use crate::jute::take;
use crate::server::Core;
use crate::server::auth::permits;
use crate::server::prep::Refusal;
use crate::tree::CONFIG;
use crate::wire::client::{OpCode, ReconfigRequest};
use crate::wire::records::{Id, Perms};
use crate::wire::txn::Txn;
use crate::zab::membership::Membership;

impl Core {
    /// Proposes another membership, or the refusal of it; nothing if the request cannot be
    /// decoded.
    pub(in crate::server) fn reconfigure(
        &mut self,
        by: (SessionId, Xid),
        body: &[u8],
        ids: &[Id],
        link: Option<LinkId>,
    ) -> Result<(), Refusal> {
        let (session, xid) = by;
        let Some(zxid) = self.next_zxid() else {
            return Ok(());
        };
        match self.next_membership(body, ids) {
            Ok(mut membership) => {
                membership.version = zxid.0;
                let text = membership.to_text();
                let txn = Txn::SetData {
                    path: CONFIG.into(),
                    data: Some(text.as_bytes()),
                    version: -1,
                };
                self.propose_membership((session, xid), &txn, membership, link);
            }
            Err(Refusal::Malformed) => return Err(Refusal::Malformed),
            Err(Refusal::Code(code)) => {
                self.propose(session, xid, OpCode::ERROR, &Txn::Error(code), link);
            }
        }
        Ok(())
    }

    fn next_membership(&self, body: &[u8], ids: &[Id]) -> Result<Membership, Refusal> {
        let Some(ensemble) = self.ensemble.as_deref() else {
            return Err(ErrorCode::RECONFIG_DISABLED.into());
        };
        if !ensemble.config.reconfig {
            return Err(ErrorCode::RECONFIG_DISABLED.into());
        }
        let mut input = body;
        let request: ReconfigRequest<'_> = take(&mut input)?;
        let (committed, last_seen) = ensemble.zab.membership();
        if last_seen.is_some_and(|seen| seen.version > committed.version) {
            return Err(ErrorCode::RECONFIG_IN_PROGRESS.into());
        }
        if request.version != -1 && request.version != committed.version {
            return Err(ErrorCode::BAD_VERSION.into());
        }
        let given = |text: &crate::jute::Text<'_>| text.0.as_ref().map(ToString::to_string);
        let (joining, leaving) = (given(&request.joining), given(&request.leaving));
        let members = given(&request.members);
        let next = committed
            .reconfigured(
                joining.as_deref(),
                leaving.as_deref(),
                members.as_deref(),
                ensemble.config.standalone_enabled,
            )
            .map_err(|error| ErrorCode(error.code()))?;
        if !ensemble.zab.can_reconfigure_to(&next) {
            return Err(ErrorCode::NEW_CONFIG_NO_QUORUM.into());
        }
        let node = self.overlay.find(&self.tree, CONFIG);
        let node = node.ok_or(ErrorCode::NO_NODE)?;
        if permits(&self.config, &node.acl, Perms::WRITE, ids) {
            Ok(next)
        } else {
            Err(ErrorCode::NO_AUTH.into())
        }
    }
}
