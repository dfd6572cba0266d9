//! The least callee that each library allows, without the port and without the dialog manager: what the library itself
//! costs. Each answers an INVITE and a BYE with 200, and leaves the 2xx's retransmission out, for nothing is lost here.

use crate::callee::Serving;
use crate::children::failed;
use siprtc_core::Result;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The bare callee that a plugin's port is held against: its own library's, and for `native`, whose library is this
/// project's, the cheapest of the others.
pub(crate) fn of(plugin: &str) -> Option<&'static str> {
    match plugin {
        "ezk" => Some("bare-ezk"),
        "native" | "rsipstack" => Some("bare-rsipstack"),
        _ => None,
    }
}

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// ezk-sip-core.
pub(crate) async fn ezk() -> Result<Serving> {
    let mut builder = ezk_sip_core::Endpoint::builder();
    builder.add_layer(ezk::Callee);
    let udp = builder.bind_udp(anywhere()).await;
    let udp = udp.map_err(|error| failed("start bare ezk", "no port").caused_by(error))?;
    let address = udp.bound().to_string();
    Ok((Box::new((builder.build(), udp)), address))
}

mod ezk {
    use super::Duration;
    use ezk_sip_core::{Endpoint, IncomingRequest, Layer, MayTake};
    use ezk_sip_types::header::typed::Contact;
    use ezk_sip_types::uri::NameAddr;
    use ezk_sip_types::{Method, StatusCode};

    pub(super) struct Callee;

    #[async_trait::async_trait]
    impl Layer for Callee {
        fn name(&self) -> &'static str {
            "callee"
        }

        async fn receive(&self, endpoint: &Endpoint, request: MayTake<'_, IncomingRequest>) {
            let mut request = request.take();
            let method = request.line.method.clone();
            if method == Method::ACK {
                return;
            }
            let mut response = endpoint.create_response(&request, StatusCode::OK, None);
            if method == Method::INVITE {
                let contact = "sip:callee@127.0.0.1".parse().ok();
                if let Some(uri) = contact {
                    let uri: ezk_sip_types::uri::SipUri = uri;
                    response
                        .msg
                        .headers
                        .insert_named(&Contact::new(NameAddr::uri(uri)));
                }
                let transaction = endpoint.create_server_inv_tsx(&mut request);
                tokio::spawn(async move {
                    if let Ok(accepted) = transaction.respond_success(response).await {
                        // As long as RFC 6026 keeps it.
                        tokio::time::sleep(Duration::from_secs(32)).await;
                        drop(accepted);
                    }
                });
            } else {
                let transaction = endpoint.create_server_tsx(&mut request);
                tokio::spawn(async move { drop(transaction.respond(response).await) });
            }
        }
    }
}

/// rsipstack.
pub(crate) async fn rsipstack() -> Result<Serving> {
    use rsipstack::sip::{Header, Method, StatusCode};
    use rsipstack::transaction::endpoint::EndpointOption;
    use rsipstack::transport::{SipConnection, TransportLayer, udp::UdpConnection};
    let token = tokio_util::sync::CancellationToken::new();
    let failed = |error: rsipstack::Error| failed("start bare rsipstack", error.to_string());
    let udp = UdpConnection::create_connection(anywhere(), None, Some(token.child_token()))
        .await
        .map_err(failed)?;
    let address = udp.get_addr().get_socketaddr().map_err(failed)?.to_string();
    let transports = TransportLayer::new(token.clone());
    transports.add_transport(SipConnection::from(udp));
    let option = EndpointOption {
        auto_ack_2xx: false,
        ..EndpointOption::default()
    };
    let endpoint = rsipstack::EndpointBuilder::new()
        .with_transport_layer(transports)
        .with_cancel_token(token.clone())
        .with_option(option)
        .build();
    let mut incoming = endpoint.incoming_transactions().map_err(failed)?;
    let contact = format!("<sip:callee@{address}>");
    tokio::spawn(async move {
        while let Some(mut transaction) = incoming.recv().await {
            let contact = contact.clone();
            tokio::spawn(async move {
                let headers = match transaction.original.method {
                    Method::Ack => return,
                    Method::Invite => vec![Header::Contact(contact.into())],
                    _ => Vec::new(),
                };
                if transaction
                    .reply_with(StatusCode::OK, headers, None)
                    .await
                    .is_ok()
                {
                    while transaction.receive().await.is_some() {}
                }
            });
        }
    });
    let serving = tokio::spawn(async move { endpoint.serve().await });
    Ok((Box::new((serving, token.drop_guard())), address))
}
