//! Puts containers that run on further networks, and takes them off again.

use types::TaskId;
use types::network::NetworkAttachment;

use super::Keeper;
use super::connect::refused_port;
use super::reserve::leads_out;
use crate::network::Adjusted;
use crate::records::Record;
use crate::sandbox::{self, Interface, Place};
use crate::{Error, Sandbox};

impl Keeper {
    /// Gives a task interfaces on the networks it is on by now and takes those on others away.
    /// Whole or not at all.
    pub(super) fn adjust(
        &mut self,
        task: TaskId,
        attachments: &[NetworkAttachment],
    ) -> Result<Adjusted, Error> {
        let Some(before) = self.records.all().get(&task).cloned() else {
            return Ok(Adjusted::Unknown);
        };
        let sandbox = self.adjusted(&before.sandbox, attachments)?;
        if sandbox == before.sandbox {
            return Ok(Adjusted::Same);
        }
        let record = Record {
            sandbox,
            ..before.clone()
        };
        self.records.put(record.clone())?;
        let refusals = self.advance();
        let connected = match refused_port(&record.sandbox, &refusals) {
            Some(error) => Err(error),
            None => self.connect(&record),
        };
        match connected {
            Ok(()) => Ok(Adjusted::Changed(record.sandbox)),
            Err(error) => {
                self.records.put(before)?;
                self.advance();
                Err(error)
            }
        }
    }

    fn adjusted(
        &mut self,
        before: &Sandbox,
        attachments: &[NetworkAttachment],
    ) -> Result<Sandbox, Error> {
        let is_asked = |one: &Interface| {
            let mut asked = attachments.iter();
            one.network
                .is_none_or(|network| asked.any(|place| place.network == network))
        };
        let mut sandbox = before.clone();
        sandbox.interfaces.retain(is_asked);
        for attachment in attachments {
            let mut known = sandbox.interfaces.iter();
            if known.any(|one| one.network == Some(attachment.network)) {
                continue;
            }
            let view = self.view.clone().ok_or(Error::NoView)?;
            let network = view.network(attachment.network);
            let network = network.ok_or(Error::UnknownNetwork(attachment.network))?;
            let local = self.give_on(network, &view)?;
            let has_way_out = sandbox
                .interfaces
                .iter()
                .any(|one| one.network.is_none() || !one.gateways.is_empty());
            let outbound = if leads_out(network) && !has_way_out {
                self.give_outbound(network.spec.ipv6, &view)?
            } else {
                Vec::new()
            };
            let place = Place {
                network,
                attachment,
                local: &local,
            };
            sandbox::extend(&mut sandbox, &place, &outbound)?;
        }
        Ok(sandbox)
    }
}
