//! Checks the configuration and starts.

use crate::listen::Acceptor;
use crate::shared::Shared;
use crate::stack::RsipstackStack;
use crate::udp::Socket;
use async_trait::async_trait;
use siprtc_core::sip::{
    EventSink, Listener, ListenerConfig, SipCapability, SipStack, SipStackFactory, StackConfig, Transport,
};
use siprtc_core::{Error, Fault, Result};
use siprtc_sip_locate::tls;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

pub(crate) struct RsipstackFactory;

#[async_trait]
impl SipStackFactory for RsipstackFactory {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn capability(&self) -> Option<SipCapability> {
        Some(crate::stack::CAPABILITY)
    }

    async fn start(&self, config: StackConfig, sink: Arc<dyn EventSink>) -> Result<Arc<dyn SipStack>> {
        check(&config)?;
        let tls_client = tls::client_config(&config.tls)?;
        let tls_server = tls::server_config(&config.tls)?.map(TlsAcceptor::from);
        let mut bound = Bound::default();
        for listener in &config.listeners {
            bound.add(listener, tls_server.as_ref()).await?;
        }
        let shared = Arc::new(Shared::new(config, sink, tls_client));
        Ok(Arc::new(bound.start(shared)))
    }
}

/// What was bound so far; dropped, it frees its ports.
#[derive(Default)]
struct Bound {
    sockets: Vec<Arc<Socket>>,
    acceptors: Vec<Acceptor>,
    listeners: Vec<Listener>,
}

impl Bound {
    async fn add(&mut self, config: &ListenerConfig, tls: Option<&TlsAcceptor>) -> Result<()> {
        let bound = match config.transport {
            Transport::Udp => {
                let socket = Socket::bind(config).await?;
                let bound = socket.bound;
                self.sockets.push(socket);
                bound
            }
            transport => {
                let secure = matches!(transport, Transport::Tls | Transport::Wss);
                let tls = match tls {
                    Some(tls) => secure.then(|| tls.clone()),
                    None if secure => return Err(tls::no_identity().backend(crate::NAME)),
                    None => None,
                };
                let acceptor = Acceptor::bind(config, tls).await?;
                let bound = acceptor.bound;
                self.acceptors.push(acceptor);
                bound
            }
        };
        self.listeners.push(Listener {
            transport: config.transport,
            bound,
            advertised: advertised(config, bound),
        });
        Ok(())
    }

    fn start(self, shared: Arc<Shared>) -> RsipstackStack {
        shared.listen(self.sockets.clone(), self.listeners);
        for socket in self.sockets {
            shared.spawn_until_stop(socket.run(shared.clone()));
        }
        for acceptor in self.acceptors {
            shared.spawn_until_stop(acceptor.run(shared.clone()));
        }
        shared.spawn_until_stop(shared.clone().run_timers());
        RsipstackStack::new(shared)
    }
}

/// Port 0 of an advertised address means the bound one.
fn advertised(config: &ListenerConfig, bound: SocketAddr) -> SocketAddr {
    match config.advertise {
        Some(advertise) if advertise.port() == 0 => SocketAddr::new(advertise.ip(), bound.port()),
        Some(advertise) => advertise,
        None => bound,
    }
}

fn check(config: &StackConfig) -> Result<()> {
    let wrong =
        |message: String| Error::new(Fault::ConfigInvalid, "start SIP stack", message).backend(crate::NAME);
    if config.timers.t1.is_zero() || config.timers.t2 < config.timers.t1 {
        return Err(wrong("timer T1 must not be 0 and T2 not less than T1".to_owned())
            .advice("leave the timers at their defaults of 500 ms and 4 s"));
    }
    if config.user_agent.contains(['\r', '\n']) {
        return Err(wrong("user_agent contains a line break".to_owned()).advice("write it on one line"));
    }
    Ok(())
}
