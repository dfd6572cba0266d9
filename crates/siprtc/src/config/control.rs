//! `[call]`: policies of call control.

use super::{CallConfig, invalid};
use siprtc_core::Result;
use siprtc_gateway::{CallControl, Transfers};

impl CallConfig {
    pub(crate) fn control(&self) -> Result<CallControl> {
        let transfers = match self.transfer.as_str() {
            "accept" => Transfers::Accept,
            "ask" => Transfers::Ask,
            "refuse" => Transfers::Refuse,
            other => {
                return Err(invalid(format!("call.transfer = {other:?} is no policy"))
                    .advice("choose ask, accept or refuse"));
            }
        };
        Ok(CallControl {
            transfers,
            ..CallControl::default()
        })
    }
}
