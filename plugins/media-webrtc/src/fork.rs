//! A connection beside another one, for another answer to the same offer.

use crate::engine::path_events;
use crate::negotiation::{Created, failed};
use crate::peer::{Peer, description, misuse};
use crate::shim::Shim;
use siprtc_core::media::{ForkConfig, SdpKind};
use siprtc_core::{Error, Fault, Result};

const OPERATION: &str = "fork";

impl Peer {
    /// It has the certificate, the streams and the path of this one, so that the offer that is out is its own as well.
    pub(crate) async fn forked(&self, config: ForkConfig) -> Result<Peer> {
        self.check_open(OPERATION)?;
        let negotiation = self.negotiation.lock().await.fork().ok_or_else(|| {
            misuse(OPERATION, "there is no first offer of ours to be answered")
                .advice("fork before anything else is negotiated")
        })?;
        let shim = self.shim().ok_or_else(|| {
            Error::new(
                Fault::Unsupported,
                OPERATION,
                "the library's own ICE agent has one peer",
            )
            .backend(crate::NAME)
            .advice("set ice.agent to one that is not \"builtin\"")
        })?;
        let shared = self.making.share(config.events);
        let path = shim.path.fork(path_events(&shared))?;
        shared.shim.get_or_init(|| Shim::new(path, shared.gate.clone()));
        let ends = (config.packets, config.video);
        let fork = self.making.build(shared, ends, negotiation).await?;
        fork.offer_again().await?;
        Ok(fork)
    }

    /// To its library, which has to have offered before it is answered. Nobody else sees this offer.
    async fn offer_again(&self) -> Result<()> {
        let mut state = self.negotiation.lock().await;
        self.direct(OPERATION, state.wanted).await?;
        let library = |error| failed(Fault::Backend, OPERATION, error);
        let offer = self.connection.create_offer(None).await.map_err(library)?.sdp;
        let set = description(SdpKind::Offer, offer.clone()).map_err(library)?;
        self.connection
            .set_local_description(set)
            .await
            .map_err(library)?;
        state.created = Some(Created {
            original: offer.clone(),
            given: offer,
        });
        Ok(())
    }
}
